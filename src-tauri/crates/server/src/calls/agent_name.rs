//! Which agent a request belongs to: the conversation's name, as the client gave it.

use axum::http::HeaderMap;

use crate::calls::fault::ApiError;

/// Longest name in the API.
const MAX_LEN: usize = 256;

/// Whether `name` may name an agent in a path or in `X-Session-ID`: `^[A-Za-z0-9._-]{1,256}$`, not `.` or `..`.
pub(crate) fn is_agent_name(name: &str) -> bool {
    (1..=MAX_LEN).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && name != "."
        && name != ".."
}

/// The name in `X-Session-ID`.
///
/// # Errors
/// It does not have the form of a name; the request is refused before any work.
pub(crate) fn session_header(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("x-session-id") else { return Ok(None) };
    match value.to_str() {
        Ok(name) if is_agent_name(name) => Ok(Some(name.to_owned())),
        _ => Err(ApiError::invalid(
            "X-Session-ID",
            "a session id has 1 to 256 letters, digits, dots, underscores or hyphens",
        )),
    }
}

/// The first of a body's names that is there. Clients put anything into these fields, JSON too:
/// what does not have the form of a name is hashed to one.
pub(crate) fn from_body(names: [Option<String>; 3]) -> Option<String> {
    let name = names.into_iter().flatten().find(|name| !name.is_empty())?;
    if is_agent_name(&name) {
        return Some(name);
    }
    let digest = blake3::hash(name.as_bytes()).to_hex();
    Some(format!("h-{}", &digest[..32]))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn names_are_letters_digits_dots_underscores_and_hyphens() {
        for good in ["a", "research", "A.b_c-9", "...", &"x".repeat(256)] {
            assert!(is_agent_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\0", &"x".repeat(257)] {
            assert!(!is_agent_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_session_header_of_another_form_is_refused_by_name() {
        let headers = |value: &str| {
            let mut map = HeaderMap::new();
            map.insert("x-session-id", HeaderValue::from_str(value).unwrap());
            map
        };
        assert_eq!(session_header(&headers("a-1")), Ok(Some("a-1".to_owned())));
        assert_eq!(session_header(&HeaderMap::new()), Ok(None));
        for bad in ["", "..", "../etc/passwd", "a b"] {
            assert_eq!(
                session_header(&headers(bad)).unwrap_err().param.as_deref(),
                Some("X-Session-ID"),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_first_name_of_a_body_wins_and_odd_ones_are_hashed() {
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(from_body([None, None, None]), None);
        assert_eq!(from_body([some(""), some("b"), some("c")]), some("b"));
        let json = from_body([None, None, some("{\"device\":1}")]).unwrap();
        assert!(is_agent_name(&json) && json.starts_with("h-"));
        assert_eq!(from_body([some("{\"device\":1}"), None, None]), Some(json.clone()));
        assert_ne!(from_body([some("{\"device\":2}"), None, None]), Some(json));
    }
}
