//! What callers hold.

mod agents;
pub(crate) mod engine;
pub(crate) mod event_stream;
pub(crate) mod handle;
pub(crate) mod pending_vectors;
