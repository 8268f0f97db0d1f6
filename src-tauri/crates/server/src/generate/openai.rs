//! The calls of OpenAI's API that generate.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use utoipa::OpenApi;

use super::handler::generate;
use crate::app::App;
use crate::calls::fault::Fault;
use crate::dialects::openai::chat::{self, ChatChoice, ChatChunkChoice};
use crate::dialects::openai::chunks::{Chunk, Completion};
use crate::dialects::openai::completions::{self, CompletionChoice};
use crate::dialects::openai::fault::ErrorBody;
use crate::dialects::openai::requests::{ChatRequest, CompletionRequest};

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(chat_completions, text_completions))]
pub(crate) struct Described;

/// The calls of OpenAI's API.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/completions", post(text_completions))
}

/// Go on with a conversation.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "OpenAI",
    params(
        ("X-Session-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._-]{1,256}$", description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("X-Samovar-Keep" = Option<bool>, Header, description = "Keep a streamed answer for `/admin/answers/{id}`")
    ),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer, whole or as server-sent events that end with `[DONE]`", content(
            (Completion<ChatChoice> = "application/json"),
            (Chunk<ChatChunkChoice> = "text/event-stream")
        )),
        (status = 404, description = "Another model", body = ErrorBody),
        (status = 429, description = "Too many requests", body = ErrorBody),
        (status = 500, description = "Something broke", body = ErrorBody)
    )
)]
async fn chat_completions(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    generate(&app, request, chat::parse).await
}

/// Go on with a text.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "OpenAI",
    params(
        ("X-Session-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._-]{1,256}$", description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("X-Samovar-Keep" = Option<bool>, Header, description = "Keep a streamed answer for `/admin/answers/{id}`")
    ),
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answer, whole or as server-sent events that end with `[DONE]`", content(
            (Completion<CompletionChoice> = "application/json"),
            (Chunk<CompletionChoice> = "text/event-stream")
        )),
        (status = 404, description = "Another model", body = ErrorBody),
        (status = 429, description = "Too many requests", body = ErrorBody),
        (status = 500, description = "Something broke", body = ErrorBody)
    )
)]
async fn text_completions(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    generate(&app, request, completions::parse).await
}
