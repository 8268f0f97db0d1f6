//! The way of a generation call over HTTP: gate, body, parse, prepare, run, write.
//!
//! Read `handler.rs` first. What is asked and answered in which words is the [dialects](crate::dialects)' business.

pub(crate) mod anthropic;
pub(crate) mod handler;
pub(crate) mod headers;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod responses;
pub(crate) mod stream;
