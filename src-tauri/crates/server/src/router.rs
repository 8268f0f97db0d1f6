//! Which path leads where, and in which dialect it is refused.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::middleware::map_request;

use crate::app::App;
use crate::dialects::anthropic::ANTHROPIC;
use crate::dialects::dialect::Dialect;
use crate::dialects::ollama::OLLAMA;
use crate::dialects::openai::OPENAI;
use crate::edge::edge::{behind_the_edge, no_route};
use crate::watch::{admin, health, metrics};
use crate::{agents, embed, generate, models, openapi, page};

/// All routes, and before them what writes paths as the routes have them.
pub(crate) fn router(app: Arc<App>) -> Router {
    let routes = routes(&app).with_state(app);
    Router::new().fallback_service(routes).layer(map_request(canonical))
}

/// All routes behind the edge, each with its dialect. What is ours alone speaks OpenAI's, and so does what leads
/// nowhere.
pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let openai = Router::new()
        .merge(generate::openai::routes())
        .merge(generate::responses::routes())
        .merge(embed::openai::routes())
        .merge(agents::routes())
        .merge(health::routes())
        .merge(metrics::routes())
        .merge(admin::routes())
        .merge(openapi::routes())
        .merge(page::routes())
        .fallback({
            let gate = Arc::clone(&app.gate);
            move |request: Request| no_route(Arc::clone(&gate), request)
        });
    let anthropic = generate::anthropic::routes();
    let ollama = generate::ollama::routes().merge(embed::ollama::routes()).merge(models::ollama::routes());
    Router::new()
        .merge(behind_the_edge(openai, &app.gate, speaks))
        .merge(behind_the_edge(models::routes(), &app.gate, models::speaks))
        .merge(behind_the_edge(anthropic, &app.gate, |_| &ANTHROPIC))
        .merge(behind_the_edge(ollama, &app.gate, |_| &OLLAMA))
}

/// OpenAI's dialect, but where a path that leads nowhere is one of Ollama's.
fn speaks(head: &Parts) -> &'static Dialect {
    if head.uri.path().starts_with("/api/") { &OLLAMA } else { &OPENAI }
}

/// Paths of APIs that clients with another idea of the base address ask for without `/v1`.
const WITHOUT_V1: [&str; 7] =
    ["/models", "/chat/completions", "/completions", "/responses", "/embeddings", "/agents", "/messages"];

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
pub(crate) fn canonical_path(path: &str) -> Option<String> {
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
            ("/embeddings/", Some("/v1/embeddings")),
            ("/agents/a/pin", Some("/v1/agents/a/pin")),
            ("/health/", Some("/health")),
            ("/messages/count_tokens/", Some("/v1/messages/count_tokens")),
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
