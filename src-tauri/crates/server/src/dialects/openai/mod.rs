//! OpenAI's API: models, chat completions, completions and embeddings.
//!
//! Read `parameters.rs` for what is honoured and what is refused, `chat.rs` and `completions.rs` for the two calls,
//! `chunks.rs` for how their answers are written; `embeddings.rs` stands by itself.

pub(crate) mod calls;
pub(crate) mod chat;
pub(crate) mod chunks;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod fault;
pub(crate) mod logprobs;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod parameters;
pub(crate) mod requests;
pub(crate) mod response_format;
pub(crate) mod sampling;
pub(crate) mod template_variables;
pub(crate) mod tools;

use super::dialect::Dialect;

/// What it says when there is no answer; the calls that are ours alone say it too.
pub(crate) static OPENAI: Dialect = Dialect { fault: |fault, _| fault::write(fault), id_header: None };
