//! The calls of OpenAI's Responses API.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use utoipa::OpenApi;

use super::handler::generate;
use crate::app::App;
use crate::calls::fault::Fault;
use crate::dialects::openai::fault::ErrorBody;
use crate::dialects::responses::objects::{DeletedResponse, ResponseEvent, ResponseObject};
use crate::dialects::responses::requests::ResponsesRequest;
use crate::dialects::responses::responses_call;
use crate::edge::guard::key_of;
use crate::kept::kept_responses::{OwnShelf, Owner};

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(respond, retrieve, delete))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/responses", post(respond))
        .route("/v1/responses/{id}", get(retrieve).delete(delete))
}

/// An id in a path, which may have been anything.
fn named(id: Result<Path<String>, PathRejection>) -> Result<String, Fault> {
    id.map(|Path(id)| id).map_err(|_| Fault::unknown_response("of bytes that are no text"))
}

fn owner(headers: &HeaderMap) -> Owner {
    Owner::of(key_of(headers))
}

/// Respond to a conversation.
#[utoipa::path(
    post,
    path = "/v1/responses",
    tag = "OpenAI",
    params(
        ("X-Session-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._-]{1,256}$", description = "The agent's name, `^[A-Za-z0-9._-]{1,256}$`"),
        ("X-Samovar-Keep" = Option<bool>, Header, description = "Keep a streamed answer for `/admin/answers/{id}`")
    ),
    request_body = ResponsesRequest,
    responses(
        (status = 200, description = "The response, whole or as server-sent events that build it", content(
            (ResponseObject = "application/json"),
            (ResponseEvent = "text/event-stream")
        )),
        (status = 404, description = "Another model", body = ErrorBody),
        (status = 429, description = "Too many requests", body = ErrorBody),
        (status = 500, description = "Something broke", body = ErrorBody)
    )
)]
async fn respond(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    let (key, kept) = (app.config.signing_key, Arc::clone(&app.kept_responses));
    let shelf = Arc::new(OwnShelf { owner: owner(request.headers()), kept });
    generate(&app, request, move |body| responses_call::parse(body, key, shelf)).await
}

/// A response that is kept.
#[utoipa::path(
    get,
    path = "/v1/responses/{id}",
    tag = "OpenAI",
    params(("id" = String, Path, description = "The response's id")),
    responses(
        (status = 200, body = ResponseObject),
        (status = 404, description = "It is not kept", body = ErrorBody)
    )
)]
async fn retrieve(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let id = named(id)?;
    let kept = app.kept_responses.find(owner(&headers), &id);
    let kept = kept.ok_or_else(|| Fault::unknown_response(&id))?;
    Ok(([(CONTENT_TYPE, "application/json")], kept.body.clone()).into_response())
}

/// Forget a response.
#[utoipa::path(
    delete,
    path = "/v1/responses/{id}",
    tag = "OpenAI",
    params(("id" = String, Path, description = "The response's id")),
    responses(
        (status = 200, body = DeletedResponse),
        (status = 404, description = "It is not kept", body = ErrorBody)
    )
)]
async fn delete(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<DeletedResponse>, Fault> {
    let id = named(id)?;
    let (head, body) = request.into_parts();
    app.gate.must_be_empty(&head.headers, body).await?;
    match app.kept_responses.forget(owner(&head.headers), &id) {
        true => Ok(Json(DeletedResponse::new(id))),
        false => Err(Fault::unknown_response(&id)),
    }
}
