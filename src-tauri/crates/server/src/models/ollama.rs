//! What Ollama's API tells of models, and of itself.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::RequestId;
use utoipa::OpenApi;

use super::served;
use crate::app::App;
use crate::calls::fault::Fault;
use crate::calls::prepare::off_the_runtime;
use crate::calls::served_model::ServedModel;
use crate::dialects::ollama::fault::OllamaError;
use crate::dialects::ollama::models::{OllamaRunning, OllamaShown, OllamaTags, OllamaVersion, parse_show};
use crate::dialects::ollama::requests::OllamaShowRequest;
use crate::edge::body::WholeBody;

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(version, tags, running, show))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/version", get(version))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(running))
        .route("/api/show", post(show))
}

/// The version of the API.
#[utoipa::path(get, path = "/api/version", tag = "Ollama", responses((status = 200, body = OllamaVersion)))]
async fn version() -> Json<OllamaVersion> {
    Json(OllamaVersion::new())
}

/// The models that can be asked.
#[utoipa::path(get, path = "/api/tags", tag = "Ollama", responses((status = 200, body = OllamaTags)))]
async fn tags(State(app): State<Arc<App>>) -> Json<OllamaTags> {
    Json(OllamaTags::new(served(&app)))
}

/// The models that are in memory.
#[utoipa::path(get, path = "/api/ps", tag = "Ollama", responses((status = 200, body = OllamaRunning)))]
async fn running(State(app): State<Arc<App>>) -> Json<OllamaRunning> {
    Json(OllamaRunning::new(served(&app)))
}

/// One of them.
#[utoipa::path(
    post,
    path = "/api/show",
    tag = "Ollama",
    request_body = OllamaShowRequest,
    responses(
        (status = 200, body = OllamaShown),
        (status = 404, description = "Another model", body = OllamaError)
    )
)]
async fn show(State(app): State<Arc<App>>, request: Request) -> Result<Json<OllamaShown>, Fault> {
    let id = request.extensions().get::<RequestId>().cloned().unwrap_or_else(|| RequestId("unnamed".into()));
    let (head, body) = request.into_parts();
    let WholeBody { bytes, share } = app.gate.read(&head.headers, body).await?;
    let read = move || {
        let _held = share;
        parse_show(&bytes)
    };
    let name = off_the_runtime(&id, read).await?;
    match app.preparer.find(&name) {
        Some((_, card)) => Ok(Json(OllamaShown::new(&ServedModel::new(&card, &app.config.sampling)))),
        None => Err(Fault::unknown_model(&name)),
    }
}
