//! The APIs: how each reads a call and writes an answer or a fault; nothing else.

pub(crate) mod fields;
pub(crate) mod openai;
pub(crate) mod sse;
