//! `GET /admin/status`: the engine, and the server that it is behind.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::view::EngineView;
use crate::app::App;
use crate::calls::default_sampling::DefaultSampling;
use crate::watch::rounding::seconds;

/// What the server and its engine are doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    #[serde(flatten)]
    engine: EngineView,
    version: String,
    address: String,
    uptime_s: f64,
    /// How long a drain lasts that does not say.
    drain_timeout_s: f64,
}

/// What the server and its engine are doing.
#[utoipa::path(get, path = "/admin/status", tag = "Admin", responses((status = 200, body = Status)))]
pub(crate) async fn status(State(app): State<Arc<App>>) -> Json<Status> {
    let stats = app.engine.stats_with_store();
    let mut engine = EngineView::new(&app.engine, &app.engine.state(), &stats, Instant::now());
    if let (Some(model), Some(card)) = (&mut engine.model, app.engine.card())
        && card.embedding().is_none()
    {
        model.sampling = Some(DefaultSampling::new(&app.config.sampling, &card));
    }
    Json(Status {
        engine,
        version: app.config.version.clone(),
        address: format!("http://{}", app.address),
        uptime_s: seconds(app.started.elapsed()),
        drain_timeout_s: seconds(app.config.drain_timeout),
    })
}
