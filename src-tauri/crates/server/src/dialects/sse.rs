//! Server-sent events as text.

use std::fmt::Write;

use serde::Serialize;

/// The content type of a stream of them.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// Append an unnamed event with one line of data.
pub(crate) fn data(out: &mut String, value: &impl Serialize) {
    out.push_str("data: ");
    out.push_str(&json(value));
    out.push_str("\n\n");
}

/// Append a named event with one line of data that is JSON already.
pub(crate) fn named(out: &mut String, name: &str, json: &str) {
    write!(out, "event: {name}\ndata: {json}\n\n").expect("a string takes any text");
}

/// Append a comment, which clients skip and proxies count as a sign of life.
pub(crate) fn comment(out: &mut String, text: &str) {
    write!(out, ": {text}\n\n").expect("a string takes any text");
}

/// A value on one line: its line breaks are escaped, so an event needs no splitting.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names are text and numbers are finite or null in what is sent")
}
