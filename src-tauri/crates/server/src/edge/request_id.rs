//! The id that names a request in its response, in the log and in the engine's records.

use axum::http::{HeaderName, HeaderValue};
use engine::RequestId;
use uuid::Uuid;

/// The header that carries it, in both directions.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a client.
const MAX_LEN: usize = 128;

/// The client's id where it is well-formed, else a new one.
pub(crate) fn request_id(sent: Option<&HeaderValue>) -> RequestId {
    match sent.and_then(|value| value.to_str().ok()).filter(|id| is_well_formed(id)) {
        Some(id) => RequestId(id.into()),
        None => RequestId(format!("req_{}", Uuid::new_v4().simple()).into()),
    }
}

/// Letters, digits and `. _ - :`, so that an id can go into any log unquoted.
fn is_well_formed(id: &str) -> bool {
    (1..=MAX_LEN).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'))
}

/// An id as a header value.
pub(crate) fn header_value(id: &RequestId) -> HeaderValue {
    HeaderValue::from_str(&id.0).unwrap_or(HeaderValue::from_static("unprintable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_well_formed_id_is_echoed_and_anything_else_is_replaced() {
        let echoed = |sent: &str| request_id(Some(&HeaderValue::from_str(sent).unwrap())).0.as_ref() == sent;
        for good in ["a", "01J9-req.7:x_Y", &"x".repeat(128)] {
            assert!(echoed(good), "{good}");
        }
        for bad in ["", "two words", "a\"b", "<script>", &"x".repeat(129)] {
            assert!(!echoed(bad), "{bad}");
        }
        let fresh = request_id(None);
        assert!(fresh.0.starts_with("req_") && fresh != request_id(None));
    }
}
