//! From a fault to a response, in the dialect of the route.

use std::time::Duration;

use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use engine::RequestId;

use super::coding::UNDERSTOOD;
use crate::calls::fault::{Fault, FaultKind};
use crate::dialects::dialect::{Dialect, WrittenFault};

impl IntoResponse for Fault {
    /// A response without words: the edge puts them in, because it knows the dialect.
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The response of a handler in `dialect`, and the fault that it is, if it is one.
pub(crate) fn refusal(
    mut response: Response,
    dialect: &Dialect,
    id: &RequestId,
) -> (Response, Option<Fault>) {
    let Some(fault) = response.extensions_mut().remove::<Fault>() else { return (response, None) };
    let WrittenFault { status, body } = (dialect.fault)(&fault, &id.0);
    let mut response = (status, [(CONTENT_TYPE, "application/json")], body).into_response();
    let headers = response.headers_mut();
    if let Some(after) = fault.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
    }
    if fault.kind == FaultKind::Encoded {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(UNDERSTOOD));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    (response, Some(fault))
}

/// Rounded up, and at least one.
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_to_come_back_in_whole_seconds_and_never_at_once() {
        for (millis, seconds) in [(0, 1), (200, 1), (1_000, 1), (12_200, 13), (30_000, 30)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }
}
