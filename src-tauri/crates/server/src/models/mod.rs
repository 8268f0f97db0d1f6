//! `/v1/models`: the models that are here, and what fits into each.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;

use crate::app::App;
use crate::calls::fault::Fault;
use crate::calls::served_model::ServedModel;
use crate::dialects::openai::fault::ErrorBody;
use crate::dialects::openai::models::{Model, ModelList};

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(list, show))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/models", get(list)).route("/v1/models/{*id}", get(show))
}

/// The models that can be asked; none while none is loaded.
#[utoipa::path(get, path = "/v1/models", tag = "OpenAI", responses((status = 200, body = ModelList)))]
async fn list(State(app): State<Arc<App>>) -> Json<ModelList> {
    let models = app.engine.models().into_iter();
    Json(ModelList::new(models.map(|(_, card)| ServedModel::new(&card, &app.config.sampling))))
}

/// One of them, by its id or another of its names.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    tag = "OpenAI",
    params(("id" = String, Path, description = "May have slashes in it")),
    responses((status = 200, body = Model), (status = 404, description = "Another model", body = ErrorBody))
)]
async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Model>, Fault> {
    match app.preparer.find(&id) {
        Some((_, card)) => Ok(Json(Model::new(ServedModel::new(&card, &app.config.sampling)))),
        None => Err(Fault::unknown_model(&id)),
    }
}
