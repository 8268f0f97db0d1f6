//! `/admin/answers/{id}`: an answer that was asked to be kept, from its beginning; and its end, when it is not wanted.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::calls::fault::ApiError;
use crate::dialects::sse;
use crate::router::App;

/// The last frame of an answer to which nothing will be added, also where it was stopped without an end of its own:
/// what a connection lost does not have.
const ENDED: &str = "ended";

/// How much is wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Also what is still to come. Browsers have few connections to a host, and who has none to spare looks again.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

/// Everything of the answer so far, as it was streamed, and what is still to come if that is wanted.
pub(super) async fn follow(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Ok(Query(wanted)) = wanted else {
        return Err(ApiError::invalid("follow", "must be true or false"));
    };
    let kept = app.kept_answers.find(&id).ok_or_else(|| ApiError::unknown_request(&id))?;
    let mut last = String::new();
    sse::comment(&mut last, ENDED);
    let last = stream::iter([Ok(Bytes::from(last))]);
    if wanted.follow {
        return Ok(sse::response(kept.follow().chain(last)));
    }
    let (bytes, has_ended) = kept.so_far();
    Ok(sse::response(stream::iter([Ok(bytes)]).chain(last.take(usize::from(has_ended)))))
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
