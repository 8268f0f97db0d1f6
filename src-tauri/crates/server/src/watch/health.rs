//! `/health/*`: whether the process, the model and the engine are fit, in Kubernetes' shape.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use engine::{NotReady, Readiness, State as EngineState, Stats, readiness};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::rounding::{one_decimal, two_decimals};
use crate::app::App;
use crate::name_lists::{failure_kinds, not_ready_reasons};

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(health, live, ready, startup))]
pub(crate) struct Described;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/startup", get(startup))
}

/// How it is.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Health {
    status: HealthStatus,
    /// Why, where it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = not_ready_reasons)]
    reason: Option<&'static str>,
    /// Of loading, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    /// Percent of the pool's blocks that are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_utilization: Option<f64>,
    /// Sequences that a drain waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<usize>,
    /// Seconds left to a drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_s: Option<f64>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// What kind of thing that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = failure_kinds)]
    failure: Option<&'static str>,
    /// Seconds since the engine has given a sign of life.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent_s: Option<f64>,
}

/// One word for it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthStatus {
    #[default]
    Alive,
    Ready,
    NotReady,
    Started,
    Starting,
}

/// The process answers, in every state.
#[utoipa::path(get, path = "/health", tag = "Health", responses((status = 200, body = Health)))]
async fn health() -> Response {
    alive()
}

/// The same as `/health`.
#[utoipa::path(get, path = "/health/live", tag = "Health", responses((status = 200, body = Health)))]
async fn live() -> Response {
    alive()
}

fn alive() -> Response {
    fresh((StatusCode::OK, Health::default()))
}

/// Whether to send requests here.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "Health",
    responses((status = 200, body = Health), (status = 503, description = "Send them elsewhere", body = Health))
)]
async fn ready(State(app): State<Arc<App>>) -> Response {
    fresh(ready_answer(&app.engine.state(), &app.engine.stats(), Instant::now()))
}

/// Whether a model has been ready once in this process.
#[utoipa::path(
    get,
    path = "/health/startup",
    tag = "Health",
    responses((status = 200, body = Health), (status = 503, description = "Not yet", body = Health))
)]
async fn startup(State(app): State<Arc<App>>) -> Response {
    fresh(startup_answer(&app.engine.state(), &app.engine.stats(), Instant::now()))
}

/// Never from a cache.
fn fresh((status, body): (StatusCode, Health)) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Whether to send requests here.
fn ready_answer(state: &EngineState, stats: &Stats, now: Instant) -> (StatusCode, Health) {
    let reason = match readiness(state, stats, now) {
        Readiness::Ready { pool_utilization } => {
            let pool_utilization = Some(one_decimal(pool_utilization));
            let body = Health { status: HealthStatus::Ready, pool_utilization, ..Health::default() };
            return (StatusCode::OK, body);
        }
        Readiness::NotReady(reason) => reason,
    };
    let mut body =
        Health { status: HealthStatus::NotReady, reason: Some(reason.reason().name()), ..Health::default() };
    match reason {
        NotReady::PoolNearExhaustion { pool_utilization } => {
            body.pool_utilization = Some(one_decimal(pool_utilization));
        }
        NotReady::ShuttingDown { n_active, deadline } => {
            body.active = Some(n_active);
            body.deadline_s = Some(one_decimal(deadline.as_secs_f64()));
        }
        NotReady::Stopped => {
            body.active = Some(0);
            body.deadline_s = Some(0.0);
        }
        NotReady::EngineFailed { kind, cause } => {
            body.cause = Some(cause);
            body.failure = Some(kind.name());
        }
        NotReady::EngineStalled { silent } => body.silent_s = Some(one_decimal(silent.as_secs_f64())),
        NotReady::NoModel | NotReady::ModelLoading { .. } | NotReady::Parked => {}
    }
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

/// Whether a model has been ready once in this process.
fn startup_answer(state: &EngineState, stats: &Stats, now: Instant) -> (StatusCode, Health) {
    if stats.started {
        return (StatusCode::OK, Health { status: HealthStatus::Started, ..Health::default() });
    }
    let mut body = Health { status: HealthStatus::Starting, ..Health::default() };
    if let Readiness::NotReady(reason) = readiness(state, stats, now) {
        body.reason = Some(reason.reason().name());
        match reason {
            NotReady::ModelLoading { progress } => body.progress = Some(two_decimals(progress)),
            NotReady::EngineFailed { kind, cause } => {
                body.cause = Some(cause);
                body.failure = Some(kind.name());
            }
            _ => {}
        }
    }
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::{After, Failure, FailureKind, LoadProgress, PoolCounts};

    use super::*;

    /// `/health/startup` and `/health/ready` of a state, as two lines.
    fn answers(state: &EngineState, change: impl FnOnce(&mut Stats, Instant)) -> String {
        let now = Instant::now() + Duration::from_secs(100);
        let mut stats = Stats { heartbeat: now, started: true, ..Stats::default() };
        change(&mut stats, now);
        let state = match state {
            EngineState::Draining { then, .. } => {
                EngineState::Draining { then: *then, deadline: now + Duration::from_millis(21_340) }
            }
            other => other.clone(),
        };
        let show = |(status, body): (StatusCode, Health)| {
            format!("{} {}", status.as_u16(), serde_json::to_string(&body).unwrap())
        };
        let startup = show(startup_answer(&state, &stats, now));
        format!("{startup}\n{}", show(ready_answer(&state, &stats, now)))
    }

    fn pool(held: usize, total: usize) -> PoolCounts {
        PoolCounts { held, total, free: total - held, ..PoolCounts::default() }
    }

    #[test]
    fn the_health_table_holds_in_every_state() {
        let draining = EngineState::Draining { then: After::Exit, deadline: Instant::now() };
        let failed = EngineState::Failed(Failure::new(FailureKind::Worker, "out of cups"));
        let table = [
            answers(&EngineState::Unloaded, |stats, _| stats.started = false),
            answers(&EngineState::Loading, |stats, _| {
                stats.started = false;
                stats.load = LoadProgress { bytes_done: 43, bytes_total: 100 };
            }),
            answers(&EngineState::Ready, |stats, _| stats.pool = pool(412, 1000)),
            answers(&EngineState::Ready, |stats, _| stats.pool = pool(900, 1000)),
            answers(&EngineState::Ready, |stats, _| stats.pool = pool(901, 1000)),
            answers(&draining, |stats, _| stats.n_running = 2),
            answers(&EngineState::Parked, |_, _| {}),
            answers(&failed, |_, _| {}),
            answers(&failed, |stats, _| stats.started = false),
            answers(&EngineState::Ready, |stats, now| stats.heartbeat = now - Duration::from_millis(2_100)),
            answers(&EngineState::Ready, |stats, now| {
                stats.step_started = Some(now - Duration::from_secs(31));
            }),
            answers(&EngineState::Stopped, |_, _| {}),
        ];
        let want = r#"
503 {"status":"starting","reason":"no_model"}
503 {"status":"not_ready","reason":"no_model"}
503 {"status":"starting","reason":"model_loading","progress":0.43}
503 {"status":"not_ready","reason":"model_loading"}
200 {"status":"started"}
200 {"status":"ready","pool_utilization":41.2}
200 {"status":"started"}
200 {"status":"ready","pool_utilization":90.0}
200 {"status":"started"}
503 {"status":"not_ready","reason":"pool_near_exhaustion","pool_utilization":90.1}
200 {"status":"started"}
503 {"status":"not_ready","reason":"shutting_down","active":2,"deadline_s":21.3}
200 {"status":"started"}
503 {"status":"not_ready","reason":"parked"}
200 {"status":"started"}
503 {"status":"not_ready","reason":"engine_failed","cause":"the model's worker failed: out of cups","failure":"worker"}
503 {"status":"starting","reason":"engine_failed","cause":"the model's worker failed: out of cups","failure":"worker"}
503 {"status":"not_ready","reason":"engine_failed","cause":"the model's worker failed: out of cups","failure":"worker"}
200 {"status":"started"}
503 {"status":"not_ready","reason":"engine_stalled","silent_s":2.1}
200 {"status":"started"}
503 {"status":"not_ready","reason":"engine_stalled","silent_s":31.0}
200 {"status":"started"}
503 {"status":"not_ready","reason":"shutting_down","active":0,"deadline_s":0.0}"#;
        assert_eq!(format!("\n{}", table.join("\n")), want);
    }
}
