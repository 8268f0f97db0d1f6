//! What is said to bytes that are no request.

use std::fmt::Write;

use axum::body::Bytes;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::{Method, StatusCode};

use super::access_log::AccessEntry;
use super::gate::Gate;
use super::request_id::{X_REQUEST_ID, request_id};
use crate::calls::fault::Fault;
use crate::dialects::openai::OPENAI;

/// The answer to bytes that are no request, which hyper refuses with `bare`, a head of its own: as any refusal it gets
/// an id, the API's shape, a line in the log and its count.
pub(crate) fn refuse_no_request(gate: &Gate, status: StatusCode, bare: &[u8]) -> Bytes {
    let limits = &gate.limits;
    let fault = match status {
        StatusCode::URI_TOO_LONG => Fault::target_too_long(limits.target_bytes),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Fault::headers_too_large(format!(
            "more than {} header fields or {} bytes of them",
            limits.headers, limits.header_bytes
        )),
        _ => Fault::bad_request("what came is no request of HTTP/1.1"),
    };
    let id = request_id(None);
    let method = Method::from_bytes(b"UNKNOWN").unwrap_or_default();
    let entry = AccessEntry::new(id.clone(), None, &method, "unmatched".to_owned(), false);
    let body = (OPENAI.fault)(&fault, &id.0).body;
    gate.http_counts.count(entry.method(), entry.route(), status);
    entry.answered(status, Some(fault.kind.name()));

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
