//! Ollama's API: chat, generate, vectors, and what is told of models.
//!
//! Read `chat_call.rs` and `generate_call.rs` for what is honoured and what is refused, `options.rs` for how an answer is
//! steered, `lines.rs` for how it is written.

pub(crate) mod chat_call;
pub(crate) mod embed_call;
pub(crate) mod fault;
pub(crate) mod generate_call;
pub(crate) mod lines;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod options;
pub(crate) mod parameters;
pub(crate) mod requests;

use super::dialect::Dialect;

/// What it says when there is no answer.
pub(crate) static OLLAMA: Dialect = Dialect { fault: |fault, _| fault::write(fault), id_header: None };
