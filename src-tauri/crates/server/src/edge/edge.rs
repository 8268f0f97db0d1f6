//! What every request passes on its way in and every response on its way out.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::access_log::AccessEntry;
use super::gate::Gate;
use super::guard::{Guard, is_health};
use super::refusal::refusal;
use super::request_id::{X_REQUEST_ID, header_value, request_id};
use super::trace_context::trace_id;
use super::turn::Turn;
use crate::calls::fault::Fault;
use crate::dialects::dialect::Dialect;
use crate::keys::key_check::Caller;

/// The edge of a group of routes: what all requests meet, and the dialect in which these routes refuse.
#[derive(Clone)]
struct Edge {
    gate: Arc<Gate>,
    speaks: Speaks,
}

/// Which dialect a request to a group of routes is answered in, by its head.
pub(crate) type Speaks = fn(&Parts) -> &'static Dialect;

/// These routes behind the edge. Whatever refuses a request to one of them does so in the dialect that this group
/// `speaks`.
pub(crate) fn behind_the_edge<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    gate: &Arc<Gate>,
    speaks: Speaks,
) -> Router<S> {
    let edge = Edge { gate: Arc::clone(gate), speaks };
    let gate = Arc::clone(gate);
    routes
        .method_not_allowed_fallback(move |request: Request| wrong_method(Arc::clone(&gate), request))
        .layer(from_fn_with_state(edge, pass))
}

/// Name the request, let the guard decide, hand it on, and dress the response: id, CORS, log line, counters.
async fn pass(State(Edge { gate, speaks }): State<Edge>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let dialect = speaks(&head);
    let id = request_id(head.headers.get(&X_REQUEST_ID));
    let route = head.extensions.get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let trace = trace_id(&head.headers);
    let entry = AccessEntry::new(id.clone(), trace, &head.method, route, is_health(head.uri.path()));
    head.extensions.insert(id.clone());
    head.extensions.insert(Arc::clone(&entry));

    let (origin, verdict) = judge(&gate.guard, &head);
    // Health is answered also when all seats are taken, and what is refused needs none.
    let turn = head.extensions.get::<Arc<Turn>>().filter(|_| !is_health(head.uri.path()));
    let is_full = matches!(verdict, Ok(Verdict::HandOn(_))) && turn.is_some_and(|turn| !turn.sit_down());
    let response = match verdict {
        Ok(Verdict::HandOn(_)) if is_full => {
            gate.discard(body).await;
            Fault::no_seat().into_response()
        }
        Ok(Verdict::HandOn(caller)) => {
            entry.set_caller(&caller);
            head.extensions.insert(caller);
            next.run(Request::from_parts(head, body)).await
        }
        Ok(Verdict::Preflight) => preflight(&head.headers),
        Err(fault) => {
            gate.discard(body).await;
            fault.into_response()
        }
    };
    let (mut response, fault) = refusal(response, dialect, &id);

    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, header_value(&id));
    if let Some(name) = dialect.id_header {
        headers.insert(name, header_value(&id));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("x-request-id, request-id, retry-after");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    headers.append(VARY, HeaderValue::from_static("origin"));

    if let Some(fault) = &fault {
        fault.log(&id);
    }
    gate.http_counts.count(entry.method(), entry.route(), response.status());
    entry.answered(response.status(), fault.map(|fault| fault.kind.name()));
    response.map(|body| Body::new(entry.follow(body)))
}

/// No such path.
pub(crate) async fn no_route(gate: Arc<Gate>, request: Request) -> Fault {
    let fault = Fault::no_route(request.method().as_str(), request.uri().path());
    gate.discard(request.into_body()).await;
    fault
}

async fn wrong_method(gate: Arc<Gate>, request: Request) -> Fault {
    let fault = Fault::wrong_method(request.method().as_str(), request.uri().path());
    gate.discard(request.into_body()).await;
    fault
}

enum Verdict {
    HandOn(Caller),
    Preflight,
}

/// The guard's checks in order, and the origin to answer to as soon as it is known to be allowed:
/// the app's own window must be able to read a 401.
fn judge(guard: &Guard, head: &Parts) -> (Option<HeaderValue>, Result<Verdict, Fault>) {
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
        .check_key(head, Instant::now())
        .and_then(|caller| guard.check_content_type(head).map(|()| caller))
        .and_then(|caller| guard.check_encoding(head).map(|()| caller));
    (origin, rest.map(Verdict::HandOn))
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
