//! `/admin/answers/{id}`: an answer that was asked to be kept, from its beginning; and its end, when it is not wanted.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::calls::fault::Fault;
use crate::dialects::openai::fault::ErrorBody;
use crate::dialects::sse::{self, EVENT_STREAM};
use crate::edge::frames::streamed;

/// The last frame of an answer to which nothing will be added, also where it was stopped without an end of its own:
/// what a connection lost does not have.
const ENDED: &str = "ended";

/// An answer that goes on no more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoppedAnswer {
    status: &'static str,
}

/// How much is wanted.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// Also what is still to come. Browsers have few connections to a host, and who has none to spare looks again.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

/// Everything of the answer so far, as it was streamed, and what is still to come if that is wanted.
#[utoipa::path(
    get,
    path = "/admin/answers/{id}",
    tag = "Admin",
    params(
        ("id" = String, Path, description = "Its `x-request-id`"),
        ("follow" = Option<bool>, Query, description = "Whether also what is still to come is wanted")
    ),
    responses(
        (
            status = 200,
            description = "The frames of the answer, and a comment `ended` when that is all",
            body = String,
            content_type = "text/event-stream"
        ),
        (status = 404, description = "No such answer is kept", body = ErrorBody)
    )
)]
pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Fault> {
    let Ok(Query(wanted)) = wanted else {
        return Err(Fault::invalid("follow", "must be true or false"));
    };
    let kept = app.kept_answers.find(&id).ok_or_else(|| Fault::unknown_request(&id))?;
    let mut last = String::new();
    sse::comment(&mut last, ENDED);
    let last = stream::iter([Ok(Bytes::from(last))]);
    if wanted.follow {
        return Ok(streamed(EVENT_STREAM, kept.follow().chain(last)));
    }
    let (bytes, has_ended) = kept.so_far();
    Ok(streamed(EVENT_STREAM, stream::iter([Ok(bytes)]).chain(last.take(usize::from(has_ended)))))
}

/// Nobody wants the rest of it.
#[utoipa::path(
    delete,
    path = "/admin/answers/{id}",
    tag = "Admin",
    params(("id" = String, Path, description = "Its `x-request-id`")),
    responses(
        (status = 200, body = StoppedAnswer),
        (status = 404, description = "No such answer is kept", body = ErrorBody)
    )
)]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<StoppedAnswer>, Fault> {
    let kept = app.kept_answers.find(&id).ok_or_else(|| Fault::unknown_request(&id))?;
    kept.stop();
    Ok(Json(StoppedAnswer { status: "stopped" }))
}
