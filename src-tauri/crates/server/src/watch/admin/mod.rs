//! `/admin/*`: drain, resume, stop, and what the engine is doing.
//!
//! `status.rs` holds the one view of the engine that status and events share.

mod answers;
mod events;
mod history;
mod lifecycle;
mod requests;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

pub(crate) use self::history::History;

use crate::router::App;

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
}
