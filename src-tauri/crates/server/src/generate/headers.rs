//! What a generation call says in its head, whichever API it is of.

use axum::http::{HeaderMap, HeaderValue};

use crate::calls::agent_name::is_agent_name;
use crate::calls::fault::Fault;

/// The header that asks for an answer to be kept.
const X_SAMOVAR_KEEP: &str = "x-samovar-keep";

/// The agent's name in `X-Session-ID`.
///
/// # Errors
/// It does not have the form of a name; the request is refused before any work.
pub(crate) fn session(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(value) = headers.get("x-session-id") else { return Ok(None) };
    match value.to_str() {
        Ok(name) if is_agent_name(name) => Ok(Some(name.to_owned())),
        _ => Err(Fault::invalid(
            "X-Session-ID",
            "a session id has 1 to 256 letters, digits, dots, underscores or hyphens",
        )),
    }
}

/// Whether a request asks for its answer to be kept.
///
/// # Errors
/// The header says neither `true` nor `false`.
pub(crate) fn is_to_be_kept(headers: &HeaderMap) -> Result<bool, Fault> {
    match headers.get(X_SAMOVAR_KEEP).map(HeaderValue::as_bytes) {
        None | Some(b"false") => Ok(false),
        Some(b"true") => Ok(true),
        Some(_) => Err(not_kept("must be true or false")),
    }
}

/// Why an answer is not kept.
pub(crate) fn not_kept(why: &str) -> Fault {
    Fault::invalid("X-Samovar-Keep", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_header_of_another_form_is_refused_by_name() {
        let headers = |value: &str| {
            let mut map = HeaderMap::new();
            map.insert("x-session-id", HeaderValue::from_str(value).unwrap());
            map
        };
        assert_eq!(session(&headers("a-1")), Ok(Some("a-1".to_owned())));
        assert_eq!(session(&HeaderMap::new()), Ok(None));
        for bad in ["", "..", "../etc/passwd", "a b"] {
            assert_eq!(session(&headers(bad)).unwrap_err().place.as_deref(), Some("X-Session-ID"), "{bad}");
        }
    }
}
