//! Which path leads where, and what all handlers share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::EngineHandle;

use crate::calls::fault::ApiError;
use crate::calls::grammars::Constraining;
use crate::calls::prompt_seats::PromptSeats;
use crate::config::{ConfigError, ServerConfig};
use crate::dialects::openai;
use crate::edge::body::discard;
use crate::edge::body_budget::BodyBudget;
use crate::edge::edge::edge;
use crate::edge::guard::Guard;
use crate::edge::http_counts::HttpCounts;
use crate::generate::kept_answers::KeptAnswers;
use crate::watch::admin::History;
use crate::watch::{admin, health, metrics};
use crate::{agents, page};

/// What all handlers share.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) address: SocketAddr,
    pub(crate) guard: Guard,
    pub(crate) engine: EngineHandle,
    pub(crate) http_counts: HttpCounts,
    pub(crate) body_budget: Arc<BodyBudget>,
    /// For prompts that are parsed, rendered and tokenised.
    pub(crate) prompt_seats: PromptSeats,
    /// Where schemas become grammars.
    pub(crate) constraining: Constraining,
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
            prompt_seats: PromptSeats::new(n_cores),
            constraining: Constraining::new(n_cores),
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

/// All routes, behind the edge that every request passes, and before that what writes paths as the routes have them.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new().fallback_service(routes(app)).layer(map_request(canonical))
}

fn routes(app: Arc<App>) -> Router {
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

/// Paths of OpenAI's API that clients with another idea of the base address ask for without `/v1`.
const WITHOUT_V1: [&str; 4] = ["/models", "/chat/completions", "/completions", "/agents"];

async fn canonical(mut request: Request) -> Request {
    let uri = request.uri();
    if let Some(path) = canonical_path(uri.path()) {
        let target = uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = target.parse().ok();
        if let Ok(uri) = axum::http::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// The path without doubled and trailing slashes and with `/v1`, if it is written otherwise.
fn canonical_path(path: &str) -> Option<String> {
    let mut plain = String::with_capacity(path.len() + 3);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        plain.push('/');
        plain.push_str(segment);
    }
    if plain.is_empty() {
        plain.push('/');
    }
    let lacks_v1 =
        |root: &str| plain.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if path.starts_with('/') && WITHOUT_V1.iter().any(|root| lacks_v1(root)) {
        plain.insert_str(0, "/v1");
    }
    (path.starts_with('/') && plain != path).then_some(plain)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_without_v1_and_with_slashes_too_many() {
        for (path, want) in [
            ("/", None),
            ("//", Some("/")),
            ("/v1/models", None),
            ("/v1/models/", Some("/v1/models")),
            ("//v1//chat///completions//", Some("/v1/chat/completions")),
            ("/models", Some("/v1/models")),
            ("/models/some/model", Some("/v1/models/some/model")),
            ("/chat/completions/", Some("/v1/chat/completions")),
            ("/completions", Some("/v1/completions")),
            ("/agents/a/pin", Some("/v1/agents/a/pin")),
            ("/health/", Some("/health")),
            ("/modelsx", None),
            ("/chat", None),
            ("/admin/requests/", Some("/admin/requests")),
            ("/v1/agents/..%2Fa", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(canonical_path(path).as_deref(), want, "{path}");
        }
    }
}
