//! Anthropic's API: messages, the tokens that they would take, and models.
//!
//! Read `messages_call.rs` for what is honoured and what is refused, `history.rs` for what a conversation may hold,
//! `answers.rs` for how an answer is written.

pub(crate) mod answers;
pub(crate) mod blocks;
pub(crate) mod capabilities;
pub(crate) mod diagnostics;
pub(crate) mod fault;
pub(crate) mod history;
pub(crate) mod messages_call;
pub(crate) mod models;
pub(crate) mod objects;
pub(crate) mod requests;
pub(crate) mod tools;

use super::dialect::Dialect;

/// What it says when there is no answer.
pub(crate) static ANTHROPIC: Dialect = Dialect { fault: fault::write, id_header: Some("request-id") };
