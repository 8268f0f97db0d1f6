//! The calls of OpenAI's API that give vectors.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use utoipa::OpenApi;

use super::handler::embed;
use crate::app::App;
use crate::calls::fault::Fault;
use crate::dialects::openai::embeddings::{self, EmbeddingList};
use crate::dialects::openai::fault::ErrorBody;
use crate::dialects::openai::requests::EmbeddingRequest;

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(embeddings_of_texts))]
pub(crate) struct Described;

/// The calls of OpenAI's API.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/embeddings", post(embeddings_of_texts))
}

/// The vectors of texts, from a model that is made for it.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "OpenAI",
    request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "A vector for each text", body = EmbeddingList),
        (status = 404, description = "Another model", body = ErrorBody),
        (status = 429, description = "Too many requests, or too many vectors at a time", body = ErrorBody),
        (status = 500, description = "Something broke", body = ErrorBody)
    )
)]
async fn embeddings_of_texts(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    embed(&app, request, embeddings::parse).await
}
