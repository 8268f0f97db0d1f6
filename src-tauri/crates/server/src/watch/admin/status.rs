//! `GET /admin/status`, and the view of the engine that the events share with it.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use engine::{ActiveRequest, EngineHandle, Readiness, State as EngineState, Stats, StoreCounts, readiness};
use serde_json::{Value, json};

use super::lifecycle::seconds;
use super::requests::describe;
use crate::calls::default_sampling::sampling_by_default;
use crate::router::App;
use crate::watch::health::one_decimal;

pub(super) async fn status(State(app): State<Arc<App>>) -> Json<Value> {
    let now = Instant::now();
    let stats = app.engine.stats_with_store();
    let mut status = view(&app.engine, &app.engine.state(), &stats, now);
    if let Some(card) = app.engine.card() {
        status["model"]["sampling"] = sampling_by_default(&app.config.sampling, &card);
    }
    status["version"] = json!(app.config.version);
    status["address"] = json!(format!("http://{}", app.address));
    status["uptime_s"] = json!(seconds(app.started.elapsed()));
    status["drain_timeout_s"] = json!(seconds(app.config.drain_timeout));
    Json(status)
}

/// What changes while the engine works: state, load progress, model, pool, queue, the requests in the house and the
/// last one that ended, totals, drain.
pub(super) fn view(engine: &EngineHandle, state: &EngineState, stats: &Stats, now: Instant) -> Value {
    let mut view = json!({"state": state.name()});
    match state {
        EngineState::Failed { cause } => view["cause"] = json!(cause.to_string()),
        EngineState::Draining { then, .. } => view["then"] = json!(format!("{then:?}").to_lowercase()),
        _ => {}
    }
    match readiness(state, stats, now) {
        Readiness::Ready { .. } => view["ready"] = json!(true),
        Readiness::NotReady(reason) => {
            view["ready"] = json!(false);
            view["reason"] = json!(reason.reason());
        }
    }
    view["load"] = json!({
        "progress": (stats.load.fraction() * 1000.0).round() / 1000.0,
        "bytes_done": stats.load.bytes_done,
        "bytes_total": stats.load.bytes_total,
    });
    view["model"] = engine.card().map_or(Value::Null, |card| {
        json!({"id": card.name, "context_length": card.effective_context, "file_bytes": card.file_bytes})
    });
    let pool = stats.pool;
    view["pool"] = json!({
        "utilization": one_decimal(pool.utilization()),
        "blocks": {"free": pool.free, "held": pool.held, "cached": pool.cached, "total": pool.total},
        "block_bytes": pool.block_bytes,
        "block_tokens": pool.block_tokens,
    });
    view["store"] = store(&stats.store);
    view["running"] = json!(stats.n_running);
    view["waiting"] = json!(stats.n_waiting);
    view["active"] = stats.active.iter().map(active).collect();
    view["last"] = engine.last_record().map_or(Value::Null, |record| describe(&record));
    view["totals"] = totals(stats);
    view["drain"] = stats.drain.map_or(Value::Null, |drain| {
        json!({
            "active": drain.n_active,
            "unsaved_bytes": drain.unsaved_bytes,
            "deadline_s": seconds(drain.deadline.saturating_duration_since(now)),
        })
    });
    view
}

/// A request in the house.
fn active(request: &ActiveRequest) -> Value {
    json!({
        "id": request.id.0.as_ref(),
        "agent": request.agent,
        "phase": request.phase.name(),
        "prompt_tokens": request.n_prompt,
        "done_tokens": request.n_done,
        "generated_tokens": request.n_generated,
    })
}

/// The disk's part: what it holds, what it may hold, and whether it takes anything now.
fn store(store: &StoreCounts) -> Value {
    let saving = match (store.is_on, store.trouble) {
        (_, Some(_)) => "not saved",
        (true, None) => "saving",
        (false, None) => "off",
    };
    json!({
        "on": store.is_on,
        "saving": saving,
        "trouble": store.trouble,
        "bytes": store.stored_bytes,
        "max_bytes": store.max_bytes,
        "queued_bytes": store.queued_bytes,
        "written_today_bytes": store.written_today_bytes,
        "blocks": store.n_blocks,
        "not_saved_blocks": store.n_not_saved,
    })
}

fn totals(stats: &Stats) -> Value {
    let totals = &stats.totals;
    json!({
        "requests": totals.requests,
        "prefilled_tokens": totals.prefilled_tokens,
        "reused_tokens": totals.reused_tokens,
        "generated_tokens": totals.generated_tokens,
        "steps": totals.steps,
        "preemptions": totals.preemptions,
        "evictions": totals.evictions,
        "restored_blocks": totals.restored_blocks,
        "restore_misses": totals.restore_misses,
        "cancelled": totals.cancelled,
        "worker_failures": totals.worker_failures,
        "drains": totals.drains,
        "drain_timeouts": totals.drain_timeouts,
        "last_drain_s": totals.last_drain.map(|took| (took.as_secs_f64() * 1000.0).round() / 1000.0),
    })
}
