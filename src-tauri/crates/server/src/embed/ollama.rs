//! The calls of Ollama's API that give vectors.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use utoipa::OpenApi;

use super::handler::embed;
use crate::app::App;
use crate::calls::fault::Fault;
use crate::dialects::ollama::embed_call::{OllamaVector, OllamaVectors, parse, parse_older};
use crate::dialects::ollama::fault::OllamaError;
use crate::dialects::ollama::requests::{OllamaEmbedRequest, OllamaEmbeddingsRequest};

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(vectors_of_texts, vector_of_text))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/embed", post(vectors_of_texts)).route("/api/embeddings", post(vector_of_text))
}

/// The vectors of texts, from a model that is made for it.
#[utoipa::path(
    post,
    path = "/api/embed",
    tag = "Ollama",
    request_body = OllamaEmbedRequest,
    responses(
        (status = 200, description = "A vector for each text", body = OllamaVectors),
        (status = 404, description = "Another model", body = OllamaError),
        (status = 429, description = "Too many requests, or too many vectors at a time", body = OllamaError),
        (status = 500, description = "Something broke", body = OllamaError)
    )
)]
async fn vectors_of_texts(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    embed(&app, request, parse).await
}

/// The vector of one text, as the model gives it.
#[utoipa::path(
    post,
    path = "/api/embeddings",
    tag = "Ollama",
    request_body = OllamaEmbeddingsRequest,
    responses(
        (status = 200, description = "Its vector", body = OllamaVector),
        (status = 404, description = "Another model", body = OllamaError),
        (status = 429, description = "Too many requests, or too many vectors at a time", body = OllamaError),
        (status = 500, description = "Something broke", body = OllamaError)
    )
)]
async fn vector_of_text(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    embed(&app, request, parse_older).await
}
