//! `/admin/answers/{id}`: an answer that was asked to be kept, from its beginning; and its end, when it is not wanted.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::errors::ApiError;
use crate::router::App;
use crate::sse;

/// Everything of the answer so far, as it was streamed, and what is still to come.
pub(super) async fn follow(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let kept = app.kept_answers.find(&id).ok_or_else(|| ApiError::unknown_request(&id))?;
    Ok(sse::response(kept.follow()))
}

/// Nobody wants the rest of it.
pub(super) async fn stop(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let kept = app.kept_answers.find(&id).ok_or_else(|| ApiError::unknown_request(&id))?;
    kept.stop();
    Ok(Json(json!({"status": "stopped"})))
}
