//! The way of a call for vectors over HTTP: gate, body, parse, prepare, embed, write.
//!
//! Read `handler.rs` first. What is asked and answered in which words is the [dialects](crate::dialects)' business.

pub(crate) mod body;
pub(crate) mod handler;
pub(crate) mod ollama;
pub(crate) mod openai;
