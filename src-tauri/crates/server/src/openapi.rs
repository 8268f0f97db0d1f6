//! `GET /openapi.json`: every route with its parameters, bodies and statuses, made from the types that are sent.
//!
//! The server's tests hold every route, method and status that they see against it.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, PathItem, Ref, ResponseBuilder};

use crate::app::App;
use crate::dialects::openai::fault::ErrorBody;
use crate::watch::{admin, health, metrics};
use crate::{agents, embed, generate, models, page, page_files};

#[derive(OpenApi)]
#[openapi(
    info(title = "Samovar", description = "An LLM server that keeps every agent's context warm"),
    paths(description),
    components(schemas(ErrorBody))
)]
struct Described;

/// What the edge and the reading of a body may say to any request.
const BY_ALL: [(&str, &str); 7] = [
    ("400", "The request makes no sense, and the error says what of it"),
    ("401", "No valid API key"),
    ("403", "A host or an origin that is not allowed, or a key that is for something else"),
    ("414", "The target is too long"),
    ("415", "The body is no JSON, or compressed otherwise than with gzip or zstd"),
    ("429", "Too many requests, of all or with this key"),
    ("431", "The header fields are too many or too long"),
];

/// What may be said besides to one whose body is read.
const WITH_BODY: [(&str, &str); 2] =
    [("408", "The body did not come in time"), ("413", "The body is too large")];

/// Routes of one dialect: their descriptions, the schema of their errors, and the statuses that say "not now".
struct Spoken {
    rooms: Vec<utoipa::openapi::OpenApi>,
    error: &'static str,
    not_now: &'static [&'static str],
}

fn spoken() -> [Spoken; 4] {
    let openai = vec![
        generate::openai::Described::openapi(),
        generate::responses::Described::openapi(),
        embed::openai::Described::openapi(),
        agents::Described::openapi(),
        health::Described::openapi(),
        metrics::Described::openapi(),
        admin::Described::openapi(),
    ];
    let anthropic = vec![generate::anthropic::Described::openapi()];
    let ollama = vec![
        generate::ollama::Described::openapi(),
        embed::ollama::Described::openapi(),
        models::ollama::Described::openapi(),
    ];
    [
        Spoken { rooms: openai, error: "ErrorBody", not_now: &["503"] },
        Spoken { rooms: anthropic, error: "AnthropicError", not_now: &["529"] },
        Spoken { rooms: ollama, error: "OllamaError", not_now: &["503"] },
        Spoken { rooms: vec![models::Described::openapi()], error: "AnyError", not_now: &["503", "529"] },
    ]
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/openapi.json", get(description))
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "Watch", responses((status = 200, body = Object)))]
async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(describe())
}

/// The descriptions of each room, as they are before they become one.
#[cfg(test)]
pub(crate) fn rooms() -> impl Iterator<Item = utoipa::openapi::OpenApi> {
    spoken().into_iter().flat_map(|Spoken { rooms, .. }| rooms)
}

/// The description of all routes.
pub(crate) fn describe() -> utoipa::openapi::OpenApi {
    let mut all = Described::openapi();
    all.paths.paths.extend(page::described());
    for (path, item) in &mut all.paths.paths {
        complete(path, item, "ErrorBody", &["503"]);
    }
    for Spoken { rooms, error, not_now } in spoken() {
        for mut room in rooms {
            for (path, item) in &mut room.paths.paths {
                complete(path, item, error, not_now);
            }
            all.merge(room);
        }
    }
    let components = all.components.get_or_insert_with(Default::default);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components.add_security_scheme(
        "x-api-key",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-api-key"))),
    );
    all
}

/// Add to a path what the edge may say on it, and who may ask.
fn complete(path: &str, item: &mut PathItem, error: &str, not_now: &[&str]) {
    let is_open = page_files::has(path) || path.starts_with("/health");
    for (operation, more) in operations(item) {
        for (status, words) in BY_ALL.iter().chain(more) {
            refuse(operation, status, words, error);
        }
        for status in not_now {
            refuse(operation, status, "Not now", error);
        }
        if !is_open {
            let keys = ["bearer", "x-api-key"].map(|name| SecurityRequirement::new(name, [] as [&str; 0]));
            operation.security = Some(keys.into());
        }
    }
}

/// The operations of a path, each with what is said to it besides its own responses.
fn operations(
    item: &mut PathItem,
) -> impl Iterator<Item = (&mut Operation, &'static [(&'static str, &'static str)])> {
    let all: [(_, &[_]); 3] =
        [(&mut item.get, &[]), (&mut item.post, &WITH_BODY), (&mut item.delete, &WITH_BODY)];
    all.into_iter().filter_map(|(operation, more)| Some((operation.as_mut()?, more)))
}

/// Add a refusal, where the operation has no response of this status.
fn refuse(operation: &mut Operation, status: &str, words: &str, error: &str) {
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(error))).build();
        ResponseBuilder::new().description(words).content("application/json", body).build().into()
    });
}
