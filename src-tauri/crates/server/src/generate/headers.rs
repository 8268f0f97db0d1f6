//! What a generation call says in its head, whichever API it is of.

use axum::http::{HeaderMap, HeaderValue};

use crate::calls::agent_name::{from_body, is_agent_name};
use crate::calls::fault::Fault;

/// The header that asks for an answer to be kept.
const X_SAMOVAR_KEEP: &str = "x-samovar-keep";

/// The header that one coding agent says its conversation in, and the one for the agents that it starts itself.
const CLAUDE_CODE_SESSION: &str = "x-claude-code-session-id";
const CLAUDE_CODE_AGENT: &str = "x-claude-code-agent-id";

/// The agent's name in `X-Session-ID`, or in what its client sends instead.
///
/// # Errors
/// It does not have the form of a name; the request is refused before any work.
pub(crate) fn session(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(value) = headers.get("x-session-id") else { return Ok(claude_code_session(headers)) };
    match value.to_str() {
        Ok(name) if is_agent_name(name) => Ok(Some(name.to_owned())),
        _ => Err(Fault::invalid(
            "X-Session-ID",
            "a session id has 1 to 256 letters, digits, dots, underscores or hyphens",
        )),
    }
}

/// The conversation that Claude Code says it is in. An agent that it started has one of its own.
fn claude_code_session(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let session = text(CLAUDE_CODE_SESSION)?;
    let name = match text(CLAUDE_CODE_AGENT).filter(|agent| !agent.is_empty()) {
        Some(agent) => format!("{session}.{agent}"),
        None => session.to_owned(),
    };
    from_body([Some(name), None, None])
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
        let mut claude = headers("a-1");
        claude.insert(CLAUDE_CODE_SESSION, HeaderValue::from_static("5d-c2"));
        assert_eq!(session(&claude), Ok(Some("a-1".to_owned())));
        claude.remove("x-session-id");
        assert_eq!(session(&claude), Ok(Some("5d-c2".to_owned())));
        claude.insert(CLAUDE_CODE_AGENT, HeaderValue::from_static("explore"));
        assert_eq!(session(&claude), Ok(Some("5d-c2.explore".to_owned())));
        claude.insert(CLAUDE_CODE_SESSION, HeaderValue::from_static("../etc"));
        assert!(session(&claude).unwrap().unwrap().starts_with("h-"));
        for bad in ["", "..", "../etc/passwd", "a b"] {
            assert_eq!(session(&headers(bad)).unwrap_err().place.as_deref(), Some("X-Session-ID"), "{bad}");
        }
    }
}
