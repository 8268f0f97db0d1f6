//! Keeps KV blocks on disk: atomic, verified, within a byte budget.
//!
//! It knows no models, nothing of what the bytes mean, and no scheduling: a block is a key, the tokens it stands
//! for, and opaque bytes. Whatever goes wrong here costs time, never a request: a failed read is a miss with a
//! reason.
//!
//! This is the interface that the engine saves and restores through, and the store that is switched off.

pub mod block_store;
pub mod off;

pub use block_store::{BlockKey, BlockRecord, BlockStore, FlushReport, MissReason, SaveReason, StoreStats};
pub use off::StoreOff;
