//! The calls of Ollama's API that generate.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use utoipa::OpenApi;

use super::handler::{answer, understand};
use crate::app::App;
use crate::calls::fault::Fault;
use crate::dialects::ollama::fault::OllamaError;
use crate::dialects::ollama::lines::{OllamaAnswer, model_only};
use crate::dialects::ollama::parameters::Wanted;
use crate::dialects::ollama::requests::{OllamaChatRequest, OllamaGenerateRequest};
use crate::dialects::ollama::{chat_call, generate_call};

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(chat, prompt), components(schemas(OllamaError)))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/chat", post(chat)).route("/api/generate", post(prompt))
}

/// Go on with a conversation.
#[utoipa::path(
    post,
    path = "/api/chat",
    tag = "Ollama",
    params(
        ("X-Session-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._-]{1,256}$", description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("X-Samovar-Keep" = Option<bool>, Header, description = "Keep a streamed answer for `/admin/answers/{id}`")
    ),
    request_body = OllamaChatRequest,
    responses(
        (status = 200, description = "The answer, in lines or whole", content(
            (OllamaAnswer = "application/x-ndjson"),
            (OllamaAnswer = "application/json")
        )),
        (status = 404, description = "Another model", body = OllamaError),
        (status = 429, description = "Too many requests", body = OllamaError),
        (status = 500, description = "Something broke", body = OllamaError)
    )
)]
async fn chat(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    respond(&app, request, chat_call::parse).await
}

/// Answer a prompt.
#[utoipa::path(
    post,
    path = "/api/generate",
    tag = "Ollama",
    params(
        ("X-Session-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._-]{1,256}$", description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("X-Samovar-Keep" = Option<bool>, Header, description = "Keep a streamed answer for `/admin/answers/{id}`")
    ),
    request_body = OllamaGenerateRequest,
    responses(
        (status = 200, description = "The answer, in lines or whole", content(
            (OllamaAnswer = "application/x-ndjson"),
            (OllamaAnswer = "application/json")
        )),
        (status = 404, description = "Another model", body = OllamaError),
        (status = 429, description = "Too many requests", body = OllamaError),
        (status = 500, description = "Something broke", body = OllamaError)
    )
)]
async fn prompt(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    respond(&app, request, generate_call::parse).await
}

async fn respond(
    app: &App,
    request: Request,
    parse: fn(&[u8]) -> Result<Wanted, Fault>,
) -> Result<Response, Fault> {
    let (wanted, understood) = understand(app, request, parse).await?.take();
    match wanted {
        Wanted::Answer(asked) => answer(app, understood.with(*asked)).await,
        Wanted::Model { name, form, reason } => {
            let (_, card) = app.preparer.model(name.as_deref())?;
            let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| card.name.clone());
            Ok(Json(model_only(form, name, reason)).into_response())
        }
    }
}
