//! Which path leads where, and what all handlers share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::EngineHandle;
use tokio::sync::Semaphore;

use crate::admin::History;
use crate::body::{BodyBudget, discard};
use crate::config::{ConfigError, ServerConfig};
use crate::edge::edge;
use crate::errors::ApiError;
use crate::guard::Guard;
use crate::http_counts::HttpCounts;
use crate::kept_answers::KeptAnswers;
use crate::{admin, agents, health, metrics, openai, page};

/// What all handlers share.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) address: SocketAddr,
    pub(crate) guard: Guard,
    pub(crate) engine: EngineHandle,
    pub(crate) http_counts: HttpCounts,
    pub(crate) body_budget: BodyBudget,
    /// Prompts being rendered and tokenised at a time; the engine needs the other cores.
    pub(crate) tokenizing: Arc<Semaphore>,
    /// Answers that go on without their clients.
    pub(crate) kept_answers: KeptAnswers,
    /// The last minutes.
    pub(crate) history: History,
    pub(crate) started: Instant,
}

impl App {
    /// # Errors
    /// The configuration has a list entry without its form.
    pub(crate) fn new(
        config: ServerConfig,
        address: SocketAddr,
        engine: EngineHandle,
        started: Instant,
    ) -> Result<App, ConfigError> {
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(App {
            guard: Guard::new(&config, address)?,
            body_budget: BodyBudget::new(&config.limits),
            tokenizing: Arc::new(Semaphore::new(n_cores)),
            http_counts: HttpCounts::default(),
            kept_answers: KeptAnswers::default(),
            history: History::default(),
            config,
            address,
            engine,
            started,
        })
    }
}

/// All routes, behind the edge that every request passes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(page::routes())
        .merge(health::routes())
        .merge(openai::routes())
        .merge(agents::routes())
        .merge(admin::routes())
        .route("/metrics", get(metrics::metrics))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), edge))
        .with_state(app)
}

async fn no_route(State(app): State<Arc<App>>, request: Request) -> Response {
    let error = ApiError::no_route(request.method().as_str(), request.uri().path());
    discard(request.into_body(), &app.config.limits).await;
    error.into_response()
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response {
    let error = ApiError::wrong_method(request.method().as_str(), request.uri().path());
    discard(request.into_body(), &app.config.limits).await;
    error.into_response()
}
