//! What every request passes on its way in and every response on its way out.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::calls::fault::ApiError;
use crate::edge::access_log::AccessEntry;
use crate::edge::body::discard;
use crate::edge::guard::{Guard, is_health};
use crate::edge::request_id::{X_REQUEST_ID, header_value, request_id};
use crate::listen::connection::Turn;
use crate::router::App;

/// Name the request, let the guard decide, hand it on, and dress the response: id, CORS, log line, counters.
pub(crate) async fn edge(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let id = request_id(head.headers.get(&X_REQUEST_ID));
    let route = head.extensions.get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let entry = AccessEntry::new(id.clone(), &head.method, route, is_health(head.uri.path()));
    head.extensions.insert(id.clone());
    head.extensions.insert(Arc::clone(&entry));

    let (origin, verdict) = judge(&app.guard, &head);
    // Health is answered also when all seats are taken, and what is refused needs none.
    let turn = head.extensions.get::<Arc<Turn>>().filter(|_| !is_health(head.uri.path()));
    let is_full = matches!(verdict, Ok(Verdict::HandOn)) && turn.is_some_and(|turn| !turn.sit_down());
    let mut response = match verdict {
        Ok(Verdict::HandOn) if is_full => {
            discard(body, &app.config.limits).await;
            ApiError::no_seat().into_response()
        }
        Ok(Verdict::HandOn) => next.run(Request::from_parts(head, body)).await,
        Ok(Verdict::Preflight) => preflight(&head.headers),
        Err(error) => {
            discard(body, &app.config.limits).await;
            error.into_response()
        }
    };

    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, header_value(&id));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("x-request-id, retry-after");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    headers.append(VARY, HeaderValue::from_static("origin"));

    app.http_counts.count(entry.method(), entry.route(), response.status());
    entry.answered(&response);
    response.map(|body| Body::new(entry.follow(body)))
}

/// The answer to bytes that are no request, which hyper refuses with `bare`, a head of its own: as any refusal it gets
/// an id, the API's shape, a line in the log and its count.
pub(crate) fn no_request(app: &App, status: StatusCode, bare: &[u8]) -> Bytes {
    let limits = &app.config.limits;
    let error = match status {
        StatusCode::URI_TOO_LONG => ApiError::target_too_long(limits.target_bytes),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ApiError::headers_too_large(format!(
            "more than {} header fields or {} bytes of them",
            limits.headers, limits.header_bytes
        )),
        _ => ApiError::bad_request("what came is no request of HTTP/1.1"),
    };
    let id = request_id(None);
    let method = Method::from_bytes(b"UNKNOWN").unwrap_or_default();
    let entry = AccessEntry::new(id.clone(), &method, "unmatched".to_owned(), false);
    let body = error.body().to_string();
    app.http_counts.count(entry.method(), entry.route(), status);
    entry.answered(&error.into_response());

    let bare = String::from_utf8_lossy(bare);
    let mut lines = bare.split("\r\n");
    let mut head = lines.next().unwrap_or_default().to_owned();
    // Of hyper's fields its date is kept; what it says of length and connection comes with ours.
    let date = lines.find(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("date:")));
    if let Some(line) = date {
        let _ = write!(head, "\r\n{line}");
    }
    let _ = write!(
        head,
        "\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n{X_REQUEST_ID}: {}\r\n\
         {X_CONTENT_TYPE_OPTIONS}: nosniff\r\n\r\n{body}",
        body.len(),
        id.0
    );
    head.into()
}

enum Verdict {
    HandOn,
    Preflight,
}

/// The guard's checks in order, and the origin to answer to as soon as it is known to be allowed:
/// the app's own window must be able to read a 401.
fn judge(guard: &Guard, head: &Parts) -> (Option<HeaderValue>, Result<Verdict, ApiError>) {
    let origin = guard
        .check_size(head)
        .and_then(|()| guard.check_once(head))
        .and_then(|()| guard.check_host(head))
        .and_then(|()| guard.check_origin(head));
    let origin = match origin {
        Ok(origin) => origin,
        Err(error) => return (None, Err(error)),
    };
    // A preflight carries no key by design; it only comes this far from an allowed origin.
    if head.method == Method::OPTIONS
        && origin.is_some()
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    {
        return (origin, Ok(Verdict::Preflight));
    }
    let rest = guard
        .check_key(head)
        .and_then(|()| guard.check_content_type(head))
        .and_then(|()| guard.check_encoding(head));
    (origin, rest.map(|()| Verdict::HandOn))
}

/// The answer to "may I": an allowed origin may use every method of ours and the headers that it asks for.
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if asked.contains_key("access-control-request-private-network") {
        headers.insert("access-control-allow-private-network", HeaderValue::from_static("true"));
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}
