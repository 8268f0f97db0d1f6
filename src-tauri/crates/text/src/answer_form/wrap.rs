//! What stands around the calls of an answer that is written, by a model that is held to it or by ourselves.

use super::call_form::{Bare, Body, Calls};

/// Around calls: an opening marker, what is between two calls in one pair of markers if there may be two, a closing
/// marker, and what is between two pairs.
pub(crate) struct Wrap {
    pub(crate) open: String,
    pub(crate) between: Option<&'static str>,
    pub(crate) close: String,
    pub(crate) after: &'static str,
}

/// How the calls of a form are wrapped.
pub(crate) fn wrap(form: &Calls<String>) -> Wrap {
    let of = |open: String, between, close: String, after| Wrap { open, between, close, after };
    let (block_open, block_close) = (form.block_open.as_str(), form.block_close.as_str());
    let (call_open, call_close) = (form.call_open.as_str(), form.call_close.as_str());
    match &form.body {
        Body::Json { .. } if form.bare == Bare::Yes => of(String::new(), None, String::new(), ""),
        Body::Json { .. } if form.name == "hermes" => {
            of(format!("{call_open}\n"), None, format!("\n{call_close}"), "\n")
        }
        Body::Json { .. } => of(format!("{call_open}["), Some(", "), format!("]{call_close}"), ""),
        Body::Named { .. } if block_open.is_empty() => {
            of(call_open.to_owned(), None, call_close.to_owned(), "")
        }
        Body::Named { .. } => of(block_open.to_owned(), Some(""), block_close.to_owned(), ""),
        Body::Tagged(tags) if block_open.is_empty() => {
            let between = tags.between;
            of(format!("{call_open}{between}"), None, call_close.to_owned(), "\n")
        }
        Body::Tagged(tags) => {
            let between = tags.between;
            of(format!("{block_open}{between}"), None, format!("{between}{block_close}"), "\n")
        }
        Body::Python => of(format!("{call_open}["), Some(", "), format!("]{call_close}"), ""),
        Body::Braced { .. } => of(call_open.to_owned(), None, call_close.to_owned(), ""),
        Body::Harmony(_) => of(String::new(), None, String::new(), ""),
    }
}
