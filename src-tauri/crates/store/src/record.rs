//! A block with all that is needed to use it again.

use address::{BlockKey, ChainHash};

use crate::idle_buffers::BlockBytes;

/// Why a block was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveReason {
    /// It was filled.
    BlockFull,
    /// The last, partial block of a finished sequence.
    Tail,
    /// A drain ended the sequence.
    Drain,
}

/// A block with all that is needed to use it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRecord {
    /// What it is found by.
    pub key: BlockKey,
    /// Chain hash of the tokens before it; zeros for the first.
    pub parent: ChainHash,
    /// The model's fingerprint.
    pub fingerprint: [u8; 32],
    /// The tokens whose KV it holds; compared after a hash hit.
    pub tokens: Vec<u32>,
    /// Why it was written.
    pub reason: SaveReason,
    /// The pool's bytes, bit for bit.
    pub bytes: BlockBytes,
}
