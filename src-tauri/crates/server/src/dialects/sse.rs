//! Server-sent events as bytes.

use std::convert::Infallible;
use std::fmt::Write;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde_json::Value;

/// Append an unnamed event with one line of data.
pub(crate) fn data(out: &mut String, value: &Value) {
    // JSON on one line has no line break in it, so it needs no splitting.
    write!(out, "data: {value}\n\n").expect("a string takes any text");
}

/// Append a named event with one line of data.
pub(crate) fn named(out: &mut String, name: &str, value: &Value) {
    write!(out, "event: {name}\ndata: {value}\n\n").expect("a string takes any text");
}

/// Append a comment, which clients skip and proxies count as a sign of life.
pub(crate) fn comment(out: &mut String, text: &str) {
    write!(out, ": {text}\n\n").expect("a string takes any text");
}

/// A response that streams events.
pub(crate) fn response<S>(frames: S) -> Response
where
    S: Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
{
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would hold frames back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
