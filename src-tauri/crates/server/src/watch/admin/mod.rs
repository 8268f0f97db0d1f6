//! `/admin/*`: drain, resume, stop, what the engine is doing, and keys.
//!
//! `view.rs` holds the one view of the engine that status and events share.

pub(crate) mod answers;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod keys;
pub(crate) mod lifecycle;
pub(crate) mod requests;
pub(crate) mod status;
pub(crate) mod view;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use utoipa::OpenApi;

use crate::app::App;

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(
    lifecycle::drain,
    lifecycle::resume,
    lifecycle::stop,
    lifecycle::load,
    status::status,
    requests::requests,
    requests::request,
    answers::follow,
    answers::stop,
    history::history,
    events::events,
    keys::list,
    keys::add,
    keys::revoke
))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/drain", post(lifecycle::drain))
        .route("/admin/resume", post(lifecycle::resume))
        .route("/admin/stop", post(lifecycle::stop))
        .route("/admin/load", post(lifecycle::load))
        .route("/admin/status", get(status::status))
        .route("/admin/requests", get(requests::requests))
        .route("/admin/requests/{id}", get(requests::request))
        .route("/admin/answers/{id}", get(answers::follow).delete(answers::stop))
        .route("/admin/history", get(history::history))
        .route("/admin/events", get(events::events))
        .route("/admin/keys", get(keys::list).post(keys::add))
        .route("/admin/keys/{id}", delete(keys::revoke))
}
