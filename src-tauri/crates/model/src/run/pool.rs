//! The memory of a KV pool, wherever it is.

use std::ops::Range;

use scheduler::footprint::Footprint;
use scheduler::{BlockId, KvLayout, LentBlock, RunError};

use crate::error::Cause;
use crate::options::PoolSize;
use crate::plan::model_plan::ModelPlan;

/// A pool of equal blocks. Callers have checked that the blocks exist and that ranges and bytes have one length.
pub(crate) trait Pool {
    fn n_blocks(&self) -> usize;

    /// Copy the bytes of one block over another.
    fn copy_block(&mut self, from: usize, to: usize) -> Result<(), RunError>;

    /// Fill `out` with a block's bytes in `ranges`.
    fn read(&mut self, block: usize, ranges: &[Range<usize>], out: &mut [u8]) -> Result<(), RunError>;

    /// Put `bytes` into `ranges` of a block.
    fn write(&mut self, block: usize, ranges: &[Range<usize>], bytes: &[u8]) -> Result<(), RunError>;

    /// The bytes of a block of these layers that hold its first `n_tokens` tokens; `None` where only whole blocks move.
    fn part(&self, _layers: &[usize], _n_tokens: usize) -> Option<Vec<Range<usize>>> {
        None
    }

    /// Lend a block to be filled elsewhere; `None` where the memory is not every thread's.
    fn lend(&mut self, _block: usize) -> Option<LentBlock> {
        None
    }
}

/// Hold that a pool of `n_blocks` has `block` and that its `block_bytes` are what a transfer moves.
pub(crate) fn check_block(
    block: BlockId,
    n_bytes: usize,
    n_blocks: usize,
    block_bytes: usize,
) -> Result<(), RunError> {
    if block.idx() >= n_blocks {
        return Err(RunError::NoSuchBlock { block: block.0, n_blocks });
    }
    if n_bytes != block_bytes {
        return Err(RunError::BlockSize { got: n_bytes, want: block_bytes });
    }
    Ok(())
}

/// `plan` in the longest context that a pool of `n_blocks` holds.
pub(crate) fn in_pool(plan: ModelPlan, layout: &KvLayout, n_blocks: usize) -> ModelPlan {
    let n_tokens = Footprint::new(layout).longest_alone(n_blocks, plan.max_context);
    plan.in_context(n_tokens)
}

/// How many blocks a pool of this size has.
pub(crate) fn n_blocks(layout: &KvLayout, pool: PoolSize) -> Result<usize, Cause> {
    let n_blocks = match pool {
        PoolSize::Blocks(n_blocks) => n_blocks as u64,
        PoolSize::Bytes(bytes) => bytes / layout.block_bytes as u64,
    };
    match u32::try_from(n_blocks).ok().filter(|&n| n > 0) {
        Some(n_blocks) => Ok(n_blocks as usize),
        None => {
            let bytes = layout.block_bytes;
            Err(Cause::Setup(format!("a KV pool of {pool:?} for blocks of {bytes} bytes")))
        }
    }
}
