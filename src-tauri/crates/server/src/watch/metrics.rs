//! `GET /metrics`: what the engine and the edge count, fresh at every scrape.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::{Histograms, MissReason, Readiness, State as EngineState, Stats, Trouble, readiness};
use utoipa::OpenApi;

use super::prometheus::Kind::{Counter, Gauge};
use super::prometheus::Page;
use crate::app::App;
use crate::edge::http_counts::HttpCounts;

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(metrics))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(metrics))
}

/// Numbers for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Watch",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"))
)]
async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut page = Page::default();
    let (state, stats) = (app.engine.state(), app.engine.stats_with_store());
    process(&mut page, &app);
    lifecycle(&mut page, &state, &stats);
    load(&mut page, &stats);
    tokens(&mut page, &stats);
    store(&mut page, &stats);
    drains(&mut page, &stats);
    distributions(&mut page, &app.engine.histograms());
    http(&mut page, &app.gate.http_counts);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.into_text()).into_response()
}

fn process(page: &mut Page, app: &App) {
    page.family("samovar_build_info", Gauge, "always 1; the labels say what runs");
    page.series("samovar_build_info", &[("version", &app.config.version)], 1);
    let uptime = app.started.elapsed().as_secs_f64();
    page.single("samovar_uptime_seconds", Gauge, "since the server began to listen", uptime);
    if let Some(bytes) = (app.config.allocated_bytes)() {
        let help = "allocated and not freed, weights included; the KV pool is mapped and not part of it";
        page.single("samovar_allocated_bytes", Gauge, help, bytes);
    }
}

fn lifecycle(page: &mut Page, state: &EngineState, stats: &Stats) {
    page.family("samovar_state", Gauge, "1 for the state the engine is in");
    for name in EngineState::NAMES {
        page.series("samovar_state", &[("state", name)], u8::from(name == state.name()));
    }
    let ready = matches!(readiness(state, stats, Instant::now()), Readiness::Ready { .. });
    page.single("samovar_ready", Gauge, "1 when /health/ready is 200", u8::from(ready));
    page.single("samovar_load_progress_ratio", Gauge, "weights made ready, 0 to 1", stats.load.fraction());
}

fn load(page: &mut Page, stats: &Stats) {
    page.single("samovar_requests_running", Gauge, "sequences with rows in steps", stats.n_running);
    page.single("samovar_requests_waiting", Gauge, "requests taken and not running yet", stats.n_waiting);
    page.family("samovar_pool_blocks", Gauge, "blocks of the KV pool by state");
    let pool = stats.pool;
    for (state, n_blocks) in [("free", pool.free), ("held", pool.held), ("cached", pool.cached)] {
        page.series("samovar_pool_blocks", &[("state", state)], n_blocks);
    }
    let ratio = pool.utilization() / 100.0;
    page.single(
        "samovar_pool_utilization_ratio",
        Gauge,
        "blocks that cannot be reused at once, 0 to 1",
        ratio,
    );
    page.single("samovar_pool_block_bytes", Gauge, "bytes of a block", pool.block_bytes);
    page.single("samovar_pool_block_tokens", Gauge, "tokens of a block", pool.block_tokens);
    page.family("samovar_pool_state_blocks", Gauge, "blocks of recurrent layers' states, running or kept");
    for (kind, n_blocks) in [("live", pool.live_states), ("checkpoint", pool.checkpoint_blocks)] {
        page.series("samovar_pool_state_blocks", &[("kind", kind)], n_blocks);
    }
    page.single("samovar_pool_checkpoints", Gauge, "states kept for later requests", pool.checkpoints);
}

fn tokens(page: &mut Page, stats: &Stats) {
    let totals = &stats.totals;
    for (name, help, value) in [
        ("samovar_requests_total", "requests that the engine has taken", totals.requests),
        ("samovar_requests_cancelled_total", "sequences whose client went away", totals.cancelled),
        ("samovar_prefill_tokens_total", "prompt tokens computed", totals.prefilled_tokens),
        ("samovar_prefix_hit_tokens_total", "prompt tokens reused", totals.reused_tokens),
        (
            "samovar_tokens_without_state_total",
            "prompt tokens in the pool that were read again for want of a checkpoint",
            totals.tokens_without_state,
        ),
        (
            "samovar_checkpoints_skipped_total",
            "places with no room for a checkpoint",
            totals.checkpoints_skipped,
        ),
        ("samovar_generated_tokens_total", "tokens sampled", totals.generated_tokens),
        ("samovar_embedded_texts_total", "texts that got their vectors", totals.embedded_texts),
        ("samovar_embedded_tokens_total", "tokens of these", totals.embedded_tokens),
        ("samovar_steps_total", "forward passes", totals.steps),
        ("samovar_step_rows_total", "rows of all forward passes", totals.rows),
        ("samovar_step_tokens_total", "tokens of all forward passes", totals.step_tokens),
        ("samovar_preemptions_total", "sequences whose blocks were taken", totals.preemptions),
        ("samovar_evictions_total", "cached blocks given up for new ones", totals.evictions),
        ("samovar_worker_failures_total", "panics and device failures", totals.worker_failures),
    ] {
        page.single(name, Counter, help, value);
    }
}

fn store(page: &mut Page, stats: &Stats) {
    let (store, totals) = (&stats.store, &stats.totals);
    page.single("samovar_store_on", Gauge, "1 when KV blocks are kept on disk", u8::from(store.is_on));
    page.family("samovar_store_not_saving", Gauge, "1 for the reason why nothing is saved now");
    for trouble in Trouble::ALL {
        let is_so = u8::from(store.trouble == Some(trouble));
        page.series("samovar_store_not_saving", &[("reason", trouble.name())], is_so);
    }
    for (name, help, value) in [
        ("samovar_store_bytes", "bytes of all files of the store", store.stored_bytes),
        ("samovar_store_max_bytes", "what these never exceed", store.max_bytes),
        ("samovar_store_live_bytes", "bytes of blocks that can be restored", store.live_bytes),
        ("samovar_store_queued_bytes", "bytes that wait to be durable", store.queued_bytes),
        ("samovar_store_blocks", "blocks that can be restored", store.n_blocks),
        ("samovar_store_checkpoints", "checkpoints that can be restored", store.n_checkpoints),
        ("samovar_store_checkpoint_bytes", "bytes of these", store.checkpoint_bytes),
        ("samovar_store_written_today_bytes", "bytes written since midnight UTC", store.written_today_bytes),
        ("samovar_store_other_version_files", "files of formats that are not read", store.n_other_versions),
    ] {
        page.single(name, Gauge, help, value);
    }
    for (name, help, value) in [
        ("samovar_store_written_bytes_total", "bytes written", store.written_bytes),
        ("samovar_store_saved_blocks_total", "blocks made durable", store.n_saved),
        ("samovar_store_not_saved_blocks_total", "blocks that could not be saved", store.n_not_saved),
        ("samovar_store_evicted_blocks_total", "blocks given up for space", store.n_evicted),
        ("samovar_store_quarantined_total", "damaged records", store.n_quarantined),
        ("samovar_restored_blocks_total", "blocks that came back into the pool", totals.restored_blocks),
    ] {
        page.single(name, Counter, help, value);
    }
    let help = "blocks that a prompt could have used and the store could not supply, the first of a run";
    page.family("samovar_restore_misses_total", Counter, help);
    for reason in MissReason::ALL.map(MissReason::name) {
        let n = totals.restore_misses.get(reason).copied().unwrap_or_default();
        page.series("samovar_restore_misses_total", &[("reason", reason)], n);
    }
}

fn drains(page: &mut Page, stats: &Stats) {
    let totals = &stats.totals;
    page.single("samovar_drains_total", Counter, "drains begun", totals.drains);
    let timeouts = totals.drain_timeouts;
    page.single("samovar_drain_timeouts_total", Counter, "drains whose deadline ended a sequence", timeouts);
    page.family("samovar_drained_sequences_total", Counter, "sequences that ended during a drain, by how");
    for (outcome, n) in
        [("finished", totals.drained_sequences), ("interrupted", totals.interrupted_sequences)]
    {
        page.series("samovar_drained_sequences_total", &[("outcome", outcome)], n);
    }
    page.single("samovar_drain_seconds_total", Counter, "time spent in drains", totals.drain_seconds);
    if let Some(last) = totals.last_drain {
        page.single("samovar_last_drain_seconds", Gauge, "length of the last drain", last.as_secs_f64());
    }
    if let Some(drain) = stats.drain {
        let left = drain.deadline.saturating_duration_since(Instant::now()).as_secs_f64();
        page.single("samovar_drain_active", Gauge, "sequences that the drain waits for", drain.n_active);
        page.single("samovar_drain_unsaved_bytes", Gauge, "bytes still to be saved", drain.unsaved_bytes);
        page.single("samovar_drain_deadline_seconds", Gauge, "time left to the drain", left);
    }
}

fn distributions(page: &mut Page, all: &Histograms) {
    for (name, help, histogram) in [
        ("samovar_time_to_first_token_seconds", "receipt to first token", &all.time_to_first_token),
        ("samovar_inter_token_seconds", "gap between two tokens of a sequence", &all.inter_token),
        ("samovar_queue_seconds", "receipt to admission", &all.queue_time),
        ("samovar_step_seconds", "length of a forward pass", &all.step_time),
        ("samovar_step_tokens", "tokens of a forward pass", &all.step_tokens),
        ("samovar_step_rows", "rows of a forward pass", &all.step_rows),
    ] {
        page.histogram(name, help, &histogram.snapshot());
    }
}

fn http(page: &mut Page, counts: &HttpCounts) {
    page.family("samovar_http_requests_total", Counter, "responses by route template and status");
    for ((method, route, status), count) in counts.all() {
        let labels = [("method", method), ("route", &*route), ("status", &*status.to_string())];
        page.series("samovar_http_requests_total", &labels, count);
    }
}
