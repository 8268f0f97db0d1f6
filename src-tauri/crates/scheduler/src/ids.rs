//! The ids that cross crate borders.

use bytemuck::TransparentWrapper;

/// A token's number in the model's vocabulary.
pub type TokenId = u32;

/// One sequence: the engine's life of one request. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(pub u64);

/// A block's place in the pool, `0..n_blocks`; what it holds changes over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, TransparentWrapper)]
#[repr(transparent)]
pub struct BlockId(pub u32);

impl BlockId {
    /// The index into per-block arrays.
    pub fn idx(self) -> usize {
        self.0 as usize
    }

    /// Plain numbers, for kernels that know no scheduler.
    pub fn numbers(ids: &[BlockId]) -> &[u32] {
        BlockId::peel_slice(ids)
    }
}
