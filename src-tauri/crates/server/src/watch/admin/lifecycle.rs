//! `POST /admin/drain`, `/admin/resume`, `/admin/stop`, `/admin/load`: the lifecycle over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::{After, DrainReport, EngineHandle, IllegalTransition, State as EngineState};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::calls::fault::ApiError;
use crate::dialects::fields::Fields;
use crate::edge::body;
use crate::router::App;
use crate::watch::health::one_decimal;

/// How long the engine may take to say that it has heard of a drain.
const HEARING: Duration = Duration::from_millis(500);

/// Drain and park. Answers with the report once the drain has ended, or with 202 at once for `?wait=false`.
///
/// A client that hangs up does not undo the drain; `/admin/resume` does.
pub(super) async fn drain(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let wait = wait_of(request.uri().query())?.unwrap_or(true);
    let timeout = take_timeout(&app, request).await?;
    let draining = begin(&app.engine, After::Park, timeout);
    if !wait {
        return begun(&app.engine, draining).await;
    }
    let report = ended(draining).await?;
    Ok(Json(json!({"status": "drained", "report": describe(&report)})).into_response())
}

/// Drain and end the process: 202 as soon as the drain has begun, or the report as its last words for `?wait=true`.
///
/// A second call may move the deadline nearer.
pub(super) async fn stop(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let wait = wait_of(request.uri().query())?.unwrap_or(false);
    let timeout = take_timeout(&app, request).await?;
    let draining = begin(&app.engine, After::Exit, timeout);
    if !wait {
        return begun(&app.engine, draining).await;
    }
    let report = ended(draining).await?;
    Ok(Json(json!({"status": "stopped", "report": describe(&report)})).into_response())
}

/// Admit again, while draining or parked.
pub(super) async fn resume(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    body::must_be_empty(request.into_body(), &app.config.limits, &app.body_budget).await?;
    app.engine.resume().await?;
    Ok(Json(json!({"status": app.engine.state().name()})).into_response())
}

/// Load the configured model, again after a failure: 202 as soon as loading has begun.
pub(super) async fn load(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    body::must_be_empty(request.into_body(), &app.config.limits, &app.body_budget).await?;
    app.engine.load().await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"status": app.engine.state().name()}))).into_response())
}

type Draining = JoinHandle<Result<DrainReport, IllegalTransition>>;

/// Begin a drain that goes on whether or not anybody waits for it.
fn begin(engine: &EngineHandle, then: After, timeout: Duration) -> Draining {
    let engine = engine.clone();
    tokio::spawn(async move { engine.drain(then, timeout).await })
}

/// The end of a drain.
async fn ended(draining: Draining) -> Result<DrainReport, ApiError> {
    match draining.await {
        Ok(ended) => Ok(ended?),
        Err(error) => {
            tracing::error!(%error, "a drain's task failed");
            Err(ApiError::fault("the drain's task"))
        }
    }
}

/// 202 once the engine drains, or has been quicker than that; 409 when it may not.
///
/// The engine hears of a drain between two steps. A step that hangs must not hang a stop too: after [`HEARING`]
/// the drain is on its way, and that is what 202 says.
async fn begun(engine: &EngineHandle, draining: Draining) -> Result<Response, ApiError> {
    let mut state = engine.watch_state();
    let drains = async {
        if state.wait_for(|state| matches!(state, EngineState::Draining { .. })).await.is_err() {
            // The engine has ended, which the drain's own answer says better.
            std::future::pending::<()>().await;
        }
    };
    let status = tokio::select! {
        ended = ended(draining) => {
            ended?;
            "drained"
        }
        () = drains => "draining",
        () = sleep(HEARING) => "draining",
    };
    Ok((StatusCode::ACCEPTED, Json(json!({"status": status}))).into_response())
}

fn describe(report: &DrainReport) -> Value {
    json!({
        "drained": report.n_drained,
        "interrupted": report.n_interrupted,
        "refused": report.n_refused,
        "took_s": (report.took.as_secs_f64() * 1000.0).round() / 1000.0,
    })
}

/// `?wait=`, if it is there; there is no other query.
fn wait_of(query: Option<&str>) -> Result<Option<bool>, ApiError> {
    match query.unwrap_or("") {
        "" => Ok(None),
        "wait=true" => Ok(Some(true)),
        "wait=false" => Ok(Some(false)),
        _ => Err(ApiError::invalid("wait", "the query may be ?wait=true or ?wait=false")),
    }
}

/// `{"timeout_s": …}` or nothing.
async fn take_timeout(app: &App, request: Request) -> Result<Duration, ApiError> {
    const LONGEST: f64 = 86_400.0;
    let body = body::read(request.into_body(), &app.config.limits, &app.body_budget).await?;
    if body.bytes.is_empty() {
        return Ok(app.config.drain_timeout);
    }
    let mut fields = Fields::of_body(&body.bytes)?;
    let timeout = fields.take_within("timeout_s", 0.0..=LONGEST)?;
    fields.finish()?;
    Ok(timeout.map_or(app.config.drain_timeout, Duration::from_secs_f32))
}

/// Seconds as the API shows them.
pub(super) fn seconds(duration: Duration) -> f64 {
    one_decimal(duration.as_secs_f64())
}
