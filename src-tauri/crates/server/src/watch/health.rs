//! `/health/*`: whether the process, the model and the engine are fit, in Kubernetes' shape.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use engine::{NotReady, Readiness, State as EngineState, Stats, readiness};
use serde_json::{Value, json};

use crate::router::App;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(live))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/startup", get(startup))
}

/// The process answers, in every state.
async fn live() -> Response {
    fresh((StatusCode::OK, json!({"status": "alive"})))
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    fresh(ready_answer(&app.engine.state(), &app.engine.stats(), Instant::now()))
}

async fn startup(State(app): State<Arc<App>>) -> Response {
    fresh(startup_answer(&app.engine.state(), &app.engine.stats(), Instant::now()))
}

/// Never from a cache.
fn fresh((status, body): (StatusCode, Value)) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Whether to send requests here.
pub(crate) fn ready_answer(state: &EngineState, stats: &Stats, now: Instant) -> (StatusCode, Value) {
    let reason = match readiness(state, stats, now) {
        Readiness::Ready { pool_utilization } => {
            let body = json!({"status": "ready", "pool_utilization": one_decimal(pool_utilization)});
            return (StatusCode::OK, body);
        }
        Readiness::NotReady(reason) => reason,
    };
    let mut body = json!({"status": "not_ready", "reason": reason.reason()});
    match reason {
        NotReady::PoolNearExhaustion { pool_utilization } => {
            body["pool_utilization"] = json!(one_decimal(pool_utilization));
        }
        NotReady::ShuttingDown { n_active, deadline } => {
            body["active"] = json!(n_active);
            body["deadline_s"] = json!(one_decimal(deadline.as_secs_f64()));
        }
        NotReady::Stopped => {
            body["active"] = json!(0);
            body["deadline_s"] = json!(0.0);
        }
        NotReady::EngineFailed { cause } => body["cause"] = json!(cause),
        NotReady::EngineStalled { silent } => body["silent_s"] = json!(one_decimal(silent.as_secs_f64())),
        NotReady::NoModel | NotReady::ModelLoading { .. } | NotReady::Parked => {}
    }
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

/// Whether a model has been ready once in this process.
pub(crate) fn startup_answer(state: &EngineState, stats: &Stats, now: Instant) -> (StatusCode, Value) {
    if stats.started {
        return (StatusCode::OK, json!({"status": "started"}));
    }
    let mut body = json!({"status": "starting"});
    if let Readiness::NotReady(reason) = readiness(state, stats, now) {
        body["reason"] = json!(reason.reason());
        match reason {
            NotReady::ModelLoading { progress } => body["progress"] = json!(two_decimals(progress)),
            NotReady::EngineFailed { cause } => body["cause"] = json!(cause),
            _ => {}
        }
    }
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

/// As the contract shows percentages and seconds.
pub(crate) fn one_decimal(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::{After, FailureCause, LoadProgress, PoolCounts};

    use super::*;

    /// `/health/startup` and `/health/ready` of a state, as two lines.
    fn answers(state: &EngineState, change: impl FnOnce(&mut Stats, Instant)) -> String {
        let now = Instant::now() + Duration::from_secs(100);
        let mut stats = Stats { heartbeat: now, started: true, ..Stats::default() };
        change(&mut stats, now);
        let state = match state {
            EngineState::Draining { then, .. } => {
                EngineState::Draining { then: *then, deadline: now + Duration::from_millis(21_340) }
            }
            other => other.clone(),
        };
        let show = |(status, body): (StatusCode, Value)| format!("{} {body}", status.as_u16());
        let startup = show(startup_answer(&state, &stats, now));
        format!("{startup}\n{}", show(ready_answer(&state, &stats, now)))
    }

    fn pool(held: usize, total: usize) -> PoolCounts {
        PoolCounts { held, total, free: total - held, ..PoolCounts::default() }
    }

    #[test]
    fn the_health_table_holds_in_every_state() {
        let draining = EngineState::Draining { then: After::Exit, deadline: Instant::now() };
        let failed = EngineState::Failed { cause: FailureCause::Worker("out of cups".into()) };
        let table = [
            answers(&EngineState::Unloaded, |stats, _| stats.started = false),
            answers(&EngineState::Loading, |stats, _| {
                stats.started = false;
                stats.load = LoadProgress { bytes_done: 43, bytes_total: 100 };
            }),
            answers(&EngineState::Ready, |stats, _| stats.pool = pool(412, 1000)),
            answers(&EngineState::Ready, |stats, _| stats.pool = pool(900, 1000)),
            answers(&EngineState::Ready, |stats, _| stats.pool = pool(901, 1000)),
            answers(&draining, |stats, _| stats.n_running = 2),
            answers(&EngineState::Parked, |_, _| {}),
            answers(&failed, |_, _| {}),
            answers(&failed, |stats, _| stats.started = false),
            answers(&EngineState::Ready, |stats, now| stats.heartbeat = now - Duration::from_millis(2_100)),
            answers(&EngineState::Ready, |stats, now| {
                stats.step_started = Some(now - Duration::from_secs(31));
            }),
            answers(&EngineState::Stopped, |_, _| {}),
        ];
        let want = r#"
503 {"status":"starting","reason":"no_model"}
503 {"status":"not_ready","reason":"no_model"}
503 {"status":"starting","reason":"model_loading","progress":0.43}
503 {"status":"not_ready","reason":"model_loading"}
200 {"status":"started"}
200 {"status":"ready","pool_utilization":41.2}
200 {"status":"started"}
200 {"status":"ready","pool_utilization":90.0}
200 {"status":"started"}
503 {"status":"not_ready","reason":"pool_near_exhaustion","pool_utilization":90.1}
200 {"status":"started"}
503 {"status":"not_ready","reason":"shutting_down","active":2,"deadline_s":21.3}
200 {"status":"started"}
503 {"status":"not_ready","reason":"parked"}
200 {"status":"started"}
503 {"status":"not_ready","reason":"engine_failed","cause":"the model's worker failed: out of cups"}
503 {"status":"starting","reason":"engine_failed","cause":"the model's worker failed: out of cups"}
503 {"status":"not_ready","reason":"engine_failed","cause":"the model's worker failed: out of cups"}
200 {"status":"started"}
503 {"status":"not_ready","reason":"engine_stalled","silent_s":2.1}
200 {"status":"started"}
503 {"status":"not_ready","reason":"engine_stalled","silent_s":31.0}
200 {"status":"started"}
503 {"status":"not_ready","reason":"shutting_down","active":0,"deadline_s":0.0}"#;
        assert_eq!(format!("\n{}", table.join("\n")), want);
    }
}
