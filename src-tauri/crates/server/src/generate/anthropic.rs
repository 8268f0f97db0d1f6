//! The calls of Anthropic's API.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use utoipa::OpenApi;

use super::handler::{count, generate};
use crate::app::App;
use crate::calls::fault::Fault;
use crate::dialects::anthropic::fault::AnthropicError;
use crate::dialects::anthropic::messages_call;
use crate::dialects::anthropic::objects::{MessageAnswer, MessageEvent, TokenCount};
use crate::dialects::anthropic::requests::{CountTokensRequest, MessagesRequest};

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(messages, count_tokens), components(schemas(AnthropicError)))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/messages", post(messages)).route("/v1/messages/count_tokens", post(count_tokens))
}

/// Go on with a conversation.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "Anthropic",
    params(
        ("X-Session-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._-]{1,256}$", description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("X-Claude-Code-Session-Id" = Option<String>, Header, description = "The same, where that one is not there"),
        ("X-Samovar-Keep" = Option<bool>, Header, description = "Keep a streamed answer for `/admin/answers/{id}`")
    ),
    request_body = MessagesRequest,
    responses(
        (status = 200, description = "The answer, whole or as server-sent events that end with `message_stop`", content(
            (MessageAnswer = "application/json"),
            (MessageEvent = "text/event-stream")
        )),
        (status = 404, description = "Another model", body = AnthropicError),
        (status = 500, description = "Something broke", body = AnthropicError)
    )
)]
async fn messages(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    let (key, diary) = (app.config.signing_key, Arc::clone(&app.diary));
    generate(&app, request, move |body| messages_call::parse(body, key, diary)).await
}

/// Count the tokens that a conversation's prompt has.
#[utoipa::path(
    post,
    path = "/v1/messages/count_tokens",
    tag = "Anthropic",
    request_body = CountTokensRequest,
    responses(
        (status = 200, body = TokenCount),
        (status = 404, description = "Another model", body = AnthropicError),
        (status = 500, description = "Something broke", body = AnthropicError)
    )
)]
async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Result<Json<TokenCount>, Fault> {
    let key = app.config.signing_key;
    let input_tokens = count(&app, request, move |body| messages_call::parse_count(body, key)).await?;
    Ok(Json(TokenCount { input_tokens }))
}
