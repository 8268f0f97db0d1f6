//! The window's page for browsers: its files, which are part of the binary, and how they may be used.
//!
//! Every file has a route of its own, so that no path from a client is ever looked up anywhere.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::openapi::path::{HttpMethod, OperationBuilder};
use utoipa::openapi::{ContentBuilder, PathItem, ResponseBuilder};

use crate::app::App;
use crate::page_files::{PAGE_FILES, route};

/// What the page may do: run and load what came with it, and talk to this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Vite puts a digest of the content into the names of what lies here.
const NAMED_BY_CONTENT: &str = "/assets/";

pub(crate) fn routes() -> Router<Arc<App>> {
    PAGE_FILES.iter().fold(Router::new(), |router, &(path, content)| {
        router
            .route(route(path), get(move |headers: HeaderMap| async move { serve(path, content, &headers) }))
    })
}

/// The routes, described.
pub(crate) fn described() -> impl Iterator<Item = (String, PathItem)> {
    PAGE_FILES.iter().map(|(path, _)| {
        let whole = ResponseBuilder::new()
            .description("A part of the window's page")
            .content(content_type(path), ContentBuilder::new().build());
        let operation = OperationBuilder::new()
            .tag("Page")
            .response("200", whole)
            .response("304", ResponseBuilder::new().description("It is what the client has"));
        (route(path).to_owned(), PathItem::new(HttpMethod::Get, operation))
    })
}

fn serve(path: &str, content: &'static [u8], asked: &HeaderMap) -> Response {
    let forever = path.starts_with(NAMED_BY_CONTENT);
    let tag = format!("\"{}\"", &blake3::hash(content).to_hex()[..16]);
    let known = asked.get(IF_NONE_MATCH).is_some_and(|tags| tags.as_bytes() == tag.as_bytes());
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { content.into_response() };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let caching = if forever { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(ETAG, HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes"));
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "txt" => "text/plain; charset=utf-8",
        "json" | "webmanifest" => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_by_its_content_is_kept_and_the_page_itself_is_asked_for_again() {
        let caching = |path: &str| {
            let response = serve(path, b"x", &HeaderMap::new());
            (response.status().as_u16(), response.headers()[CACHE_CONTROL].to_str().unwrap().to_owned())
        };
        assert_eq!(caching("/index.html"), (200, "no-cache".into()));
        assert_eq!(caching("/assets/index-1a2b.js"), (200, "public, max-age=31536000, immutable".into()));
    }

    #[test]
    fn a_page_that_the_browser_has_is_not_sent_again() {
        let first = serve("/index.html", b"x", &HeaderMap::new());
        let mut asked = HeaderMap::new();
        asked.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        assert_eq!(serve("/index.html", b"x", &asked).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(serve("/index.html", b"y", &asked).status(), StatusCode::OK);
    }
}
