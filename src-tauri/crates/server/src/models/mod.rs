//! `/v1/models`: the models that are here, and what fits into each, in the words of whoever asks.

pub(crate) mod ollama;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::app::App;
use crate::calls::fault::Fault;
use crate::calls::served_model::ServedModel;
use crate::dialects::anthropic::ANTHROPIC;
use crate::dialects::anthropic::fault::AnthropicError;
use crate::dialects::anthropic::models::{AnthropicModel, AnthropicModelList};
use crate::dialects::dialect::Dialect;
use crate::dialects::openai::OPENAI;
use crate::dialects::openai::fault::ErrorBody;
use crate::dialects::openai::models::{Model, ModelList};

/// The header that every client of Anthropic's API sends, and no other: two APIs have these paths.
const ANTHROPIC_VERSION: &str = "anthropic-version";

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(list, show))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/models", get(list)).route("/v1/models/{*id}", get(show))
}

/// The dialect that a request to these routes is answered in.
pub(crate) fn speaks(head: &Parts) -> &'static Dialect {
    if asks_as_anthropic(&head.headers) { &ANTHROPIC } else { &OPENAI }
}

fn asks_as_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key(ANTHROPIC_VERSION)
}

/// The models that are here.
fn served(app: &App) -> impl Iterator<Item = ServedModel> {
    app.engine.models().into_iter().map(|(_, card)| ServedModel::new(&card, &app.config.sampling))
}

/// A list in the words of one API or the other.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum AnyModelList {
    OpenAi(ModelList),
    Anthropic(AnthropicModelList),
}

/// A model in the words of one API or the other.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum AnyModel {
    OpenAi(Model),
    Anthropic(AnthropicModel),
}

/// An error in the words of one API or the other.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a description: the edge writes either")]
enum AnyError {
    OpenAi(ErrorBody),
    Anthropic(AnthropicError),
}

/// The models that can be asked; none while none is loaded.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "OpenAI and Anthropic",
    params(("anthropic-version" = Option<String>, Header, description = "Who sends it is answered as Anthropic's API does")),
    responses((status = 200, body = AnyModelList))
)]
async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Json<AnyModelList> {
    let models = served(&app);
    Json(match asks_as_anthropic(&headers) {
        true => AnyModelList::Anthropic(AnthropicModelList::new(models)),
        false => AnyModelList::OpenAi(ModelList::new(models)),
    })
}

/// One of them, by its id or another of its names.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    tag = "OpenAI and Anthropic",
    params(
        ("id" = String, Path, description = "May have slashes in it"),
        ("anthropic-version" = Option<String>, Header, description = "Who sends it is answered as Anthropic's API does")
    ),
    responses((status = 200, body = AnyModel), (status = 404, description = "Another model", body = AnyError))
)]
async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<AnyModel>, Fault> {
    let Some((_, card)) = app.preparer.find(&id) else { return Err(Fault::unknown_model(&id)) };
    let model = ServedModel::new(&card, &app.config.sampling);
    Ok(Json(match asks_as_anthropic(&headers) {
        true => AnyModel::Anthropic(AnthropicModel::new(model)),
        false => AnyModel::OpenAi(Model::new(model)),
    }))
}
