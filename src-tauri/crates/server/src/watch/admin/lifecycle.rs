//! `POST /admin/drain`, `/admin/resume`, `/admin/stop`, `/admin/load`: the lifecycle over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::{After, DrainReport, EngineHandle, IllegalTransition, State as EngineState};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use utoipa::ToSchema;

use crate::app::App;
use crate::calls::fault::Fault;
use crate::dialects::fields::Fields;
use crate::dialects::openai::fault::ErrorBody;
use crate::watch::rounding::three_decimals;

/// How long the engine may take to say that it has heard of a drain.
const HEARING: Duration = Duration::from_millis(500);

/// What the server is doing now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LifecycleStatus {
    status: &'static str,
}

/// A drain that has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedDrain {
    /// `drained`, or `stopped` where the process ends.
    status: &'static str,
    report: EndedDrainReport,
}

#[derive(Debug, Serialize, ToSchema)]
struct EndedDrainReport {
    /// Sequences that ran to their own end.
    drained: usize,
    /// Sequences that were ended by the deadline.
    interrupted: usize,
    /// Requests that were refused because they had not started.
    refused: usize,
    took_s: f64,
}

impl EndedDrain {
    fn new(status: &'static str, report: &DrainReport) -> EndedDrain {
        let report = EndedDrainReport {
            drained: report.n_drained,
            interrupted: report.n_interrupted,
            refused: report.n_refused,
            took_s: three_decimals(report.took.as_secs_f64()),
        };
        EndedDrain { status, report }
    }
}

/// How a drain is to be done.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: the body is taken apart field by field")]
pub(crate) struct DrainRequest {
    /// How long running sequences may go on, in seconds.
    #[schema(required = false, minimum = 0, maximum = 86400, example = 30)]
    timeout_s: Option<f64>,
}

/// Drain and park. Answers with the report once the drain has ended, or with 202 at once for `?wait=false`.
///
/// A client that hangs up does not undo the drain; `/admin/resume` does.
#[utoipa::path(
    post,
    path = "/admin/drain",
    tag = "Admin",
    params(("wait" = Option<bool>, Query, description = "Whether to answer when it has ended")),
    request_body = Option<DrainRequest>,
    responses(
        (status = 200, description = "It has ended", body = EndedDrain),
        (status = 202, description = "It has begun", body = LifecycleStatus),
        (status = 409, description = "Not in this state", body = ErrorBody),
        (status = 500, description = "Something broke", body = ErrorBody)
    )
)]
pub(crate) async fn drain(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    let wait = wait_of(request.uri().query())?.unwrap_or(true);
    let timeout = take_timeout(&app, request).await?;
    let draining = begin(&app.engine, After::Park, timeout);
    if !wait {
        return begun(&app.engine, draining).await;
    }
    let report = ended(draining).await?;
    Ok(Json(EndedDrain::new("drained", &report)).into_response())
}

/// Drain and end the process: 202 as soon as the drain has begun, or the report as its last words for `?wait=true`.
///
/// A second call may move the deadline nearer.
#[utoipa::path(
    post,
    path = "/admin/stop",
    tag = "Admin",
    params(("wait" = Option<bool>, Query, description = "Whether to answer when it has ended")),
    request_body = Option<DrainRequest>,
    responses(
        (status = 200, description = "It has ended", body = EndedDrain),
        (status = 202, description = "It has begun", body = LifecycleStatus),
        (status = 409, description = "Not in this state", body = ErrorBody),
        (status = 500, description = "Something broke", body = ErrorBody)
    )
)]
pub(crate) async fn stop(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    let wait = wait_of(request.uri().query())?.unwrap_or(false);
    let timeout = take_timeout(&app, request).await?;
    let draining = begin(&app.engine, After::Exit, timeout);
    if !wait {
        return begun(&app.engine, draining).await;
    }
    let report = ended(draining).await?;
    Ok(Json(EndedDrain::new(EngineState::Stopped.name(), &report)).into_response())
}

/// Admit again, while draining or parked.
#[utoipa::path(
    post,
    path = "/admin/resume",
    tag = "Admin",
    responses(
        (status = 200, body = LifecycleStatus),
        (status = 409, description = "Not in this state", body = ErrorBody),
        (status = 500, description = "Something broke", body = ErrorBody)
    )
)]
pub(crate) async fn resume(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    let (head, body) = request.into_parts();
    app.gate.must_be_empty(&head.headers, body).await?;
    app.engine.resume().await?;
    Ok(Json(LifecycleStatus { status: app.engine.state().name() }).into_response())
}

/// Load the configured model, again after a failure: 202 as soon as loading has begun.
#[utoipa::path(
    post,
    path = "/admin/load",
    tag = "Admin",
    responses(
        (status = 202, description = "Loading has begun", body = LifecycleStatus),
        (status = 409, description = "Not in this state", body = ErrorBody),
        (status = 500, description = "Something broke", body = ErrorBody)
    )
)]
pub(crate) async fn load(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    let (head, body) = request.into_parts();
    app.gate.must_be_empty(&head.headers, body).await?;
    app.engine.load().await?;
    Ok((StatusCode::ACCEPTED, Json(LifecycleStatus { status: app.engine.state().name() })).into_response())
}

type Draining = JoinHandle<Result<DrainReport, IllegalTransition>>;

/// Begin a drain that goes on whether or not anybody waits for it.
fn begin(engine: &EngineHandle, then: After, timeout: Duration) -> Draining {
    let engine = engine.clone();
    tokio::spawn(async move { engine.drain(then, timeout).await })
}

/// The end of a drain.
async fn ended(draining: Draining) -> Result<DrainReport, Fault> {
    match draining.await {
        Ok(ended) => Ok(ended?),
        Err(error) => Err(Fault::internal("the drain's task", format!("a drain's task failed: {error}"))),
    }
}

/// 202 once the engine drains, or has been quicker than that; 409 when it may not.
///
/// The engine hears of a drain between two steps. A step that hangs must not hang a stop too: after [`HEARING`]
/// the drain is on its way, and that is what 202 says.
async fn begun(engine: &EngineHandle, draining: Draining) -> Result<Response, Fault> {
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
    Ok((StatusCode::ACCEPTED, Json(LifecycleStatus { status })).into_response())
}

/// `?wait=`, if it is there; there is no other query.
fn wait_of(query: Option<&str>) -> Result<Option<bool>, Fault> {
    match query.unwrap_or("") {
        "" => Ok(None),
        "wait=true" => Ok(Some(true)),
        "wait=false" => Ok(Some(false)),
        _ => Err(Fault::invalid("wait", "the query may be ?wait=true or ?wait=false")),
    }
}

/// `{"timeout_s": …}` or nothing.
async fn take_timeout(app: &App, request: Request) -> Result<Duration, Fault> {
    const LONGEST: f64 = 86_400.0;
    let (head, body) = request.into_parts();
    let body = app.gate.read(&head.headers, body).await?;
    if body.bytes.is_empty() {
        return Ok(app.config.drain_timeout);
    }
    let mut fields = Fields::of_body(&body.bytes)?;
    let timeout = fields.take_within("timeout_s", 0.0..=LONGEST)?;
    fields.finish()?;
    Ok(timeout.map_or(app.config.drain_timeout, Duration::from_secs_f32))
}
