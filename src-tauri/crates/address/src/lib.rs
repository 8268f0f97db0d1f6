//! What a block of KV is called, in the pool and on disk.
//!
//! The scheduler finds blocks in memory by these names and the store finds them on disk, and neither knows the other:
//! what both call a block lies below them, so that it needs no translation between them. This crate knows nothing of
//! what a block holds, and computes no hash.

mod block_key;
mod chain_hash;

pub use block_key::{BlockKey, GroupId};
pub use chain_hash::ChainHash;
