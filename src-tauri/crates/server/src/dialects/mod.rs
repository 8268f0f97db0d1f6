//! The APIs: how each reads a call and writes an answer or a fault; nothing else.
//!
//! They know [calls](crate::calls) and no engine, and a path, a status and bytes are all that they know of HTTP. An API
//! of one's own is a folder here and its routes: read `dialect.rs`, then `openai/`, the first of them.

pub(crate) mod anthropic;
pub(crate) mod arguments;
pub(crate) mod dialect;
pub(crate) mod embed_inputs;
pub(crate) mod fields;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod remarks;
pub(crate) mod responses;
pub(crate) mod sse;
pub(crate) mod stops;
pub(crate) mod timestamps;
pub(crate) mod token_ids;
