//! `GET /admin/requests`: what became of the last requests.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Path, State};
use engine::RequestRecord;
use serde_json::{Value, json};

use crate::calls::fault::ApiError;
use crate::router::App;

/// The newest first.
pub(super) async fn requests(State(app): State<Arc<App>>) -> Json<Value> {
    let records: Vec<Value> = app.engine.records().iter().rev().map(describe).collect();
    Json(json!({"requests": records}))
}

/// One of them, by its `x-request-id`.
pub(super) async fn request(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    app.engine.record(&id).map(|record| Json(describe(&record))).ok_or_else(|| ApiError::unknown_request(&id))
}

pub(super) fn describe(record: &RequestRecord) -> Value {
    json!({
        "id": record.id.0.as_ref(),
        "agent": record.agent,
        "ended_at": record.ended_at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        "outcome": record.outcome,
        "prompt_tokens": record.n_prompt,
        "prefilled_tokens": record.n_prefilled,
        "reused_tokens": record.n_reused,
        "restored_tokens": record.n_restored,
        "spliced_tokens": record.n_spliced,
        "restore_misses": record.restore_misses,
        "first_difference": record.first_difference,
        "generated_tokens": record.n_generated,
        "preempted": record.n_preempted,
        "queued_s": record.queued.as_secs_f64(),
        "time_to_first_token_s": record.time_to_first_token.map(|time| time.as_secs_f64()),
        "decoding_s": record.decoding.as_secs_f64(),
    })
}
