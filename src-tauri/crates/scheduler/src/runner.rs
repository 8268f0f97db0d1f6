//! The one seam between deciding and computing.

use std::ops::DerefMut;
use std::sync::Arc;

use crate::cache_spec::ModelCacheSpec;
use crate::ids::BlockId;
use crate::kv_layout::KvLayout;
use crate::step::{Step, StepOutput};

/// The bytes of a block of the pool, on loan.
pub type LentBlock = Box<dyn DerefMut<Target = [u8]> + Send + Sync>;

/// The first tokens of a block that is not full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPart {
    /// The layer group whose block it is.
    pub group_idx: usize,
    /// How many tokens.
    pub n_tokens: usize,
}

/// What a runner that computes elsewhere rings when a step is done; it must not wait for anything.
pub type Bell = Box<dyn Fn() + Send>;

/// How a step was begun.
#[derive(Debug)]
pub enum Begun {
    /// It is done already: the runner computes on its caller's thread.
    Done(StepOutput),
    /// A device computes it, see [`ModelRunner::poll`].
    UnderWay,
}

/// Executes steps against a KV pool that it owns.
///
/// The engine drives it from one thread. Two implementations exist: the real one in `model`,
/// and the scripted one with which engine and scheduler are tested.
pub trait ModelRunner: Send {
    /// The model's KV shape.
    fn cache_spec(&self) -> &ModelCacheSpec;

    /// How blocks are cut out of the pool.
    fn layout(&self) -> &KvLayout;

    /// Blocks in the pool; ids run from 0 to one less.
    fn n_blocks(&self) -> usize;

    /// Run one step and leave what its rows want in `out`, whose old content is dropped.
    ///
    /// # Errors
    /// The step failed as a whole and nothing of it may be used. A row with non-finite logits is not an error:
    /// the caller looks at the values.
    fn run(&mut self, step: &Step, out: &mut StepOutput) -> Result<(), RunError>;

    /// Begin a step. What its rows want goes to `out`, whose memory is used again. One that computes on a device of its own
    /// returns at once and rings `bell` when there is something to [`ModelRunner::poll`]; until that has given the
    /// output, nothing else may be asked of it but [`ModelRunner::give_up`].
    ///
    /// # Errors
    /// As [`ModelRunner::run`].
    fn begin(&mut self, step: &Arc<Step>, mut out: StepOutput, _bell: Bell) -> Result<Begun, RunError> {
        self.run(step, &mut out)?;
        Ok(Begun::Done(out))
    }

    /// The output of the step under way, if it is done.
    ///
    /// # Errors
    /// As [`ModelRunner::run`], or no step is under way.
    fn poll(&mut self) -> Result<Option<StepOutput>, RunError> {
        Err(RunError::InvalidStep("no step is under way".to_owned()))
    }

    /// Nothing will be asked of it any more, and it is about to be dropped: where a device hangs, that must not wait
    /// for it.
    fn give_up(&mut self) {}

    /// Copy a block's bytes out of the pool; `out` is `layout().block_bytes` long.
    ///
    /// # Errors
    /// The block does not exist or `out` has another length.
    fn export_block(&mut self, block: BlockId, out: &mut [u8]) -> Result<(), RunError>;

    /// Bytes of a part of a block: as many as its tokens take, or those of a whole block where the runner keeps no
    /// parts.
    fn part_bytes(&self, _part: BlockPart) -> usize {
        self.layout().block_bytes
    }

    /// Copy the bytes of a part of a block out of the pool; `out` is [`ModelRunner::part_bytes`] long.
    ///
    /// # Errors
    /// The block does not exist or `out` has another length.
    fn export_part(&mut self, block: BlockId, _part: BlockPart, out: &mut [u8]) -> Result<(), RunError> {
        self.export_block(block, out)
    }

    /// Copy bytes that [`ModelRunner::export_part`] gave back into a block; what the part does not have is left as it
    /// is.
    ///
    /// # Errors
    /// The block does not exist or `bytes` has another length.
    fn import_part(&mut self, block: BlockId, _part: BlockPart, bytes: &[u8]) -> Result<(), RunError> {
        self.import_block(block, bytes)
    }

    /// Lend a block of the pool for a thread of the caller's to fill with what [`ModelRunner::export_block`] gave.
    /// Until it is dropped, no step and no transfer may touch that block. `None` where the pool is not memory that
    /// every thread reaches, or there is no such block: then there is [`ModelRunner::import_block`].
    fn lend_block(&mut self, _block: BlockId) -> Option<LentBlock> {
        None
    }

    /// Copy bytes that [`ModelRunner::export_block`] gave back into a block, bit for bit.
    ///
    /// # Errors
    /// The block does not exist or `bytes` has another length.
    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), RunError>;
}

/// Why a step or a block transfer did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The step contradicts the pool or the model: a bug in the caller.
    #[error("invalid step: {0}")]
    InvalidStep(String),
    /// A block id outside the pool.
    #[error("block {block} of {n_blocks}")]
    NoSuchBlock {
        /// The id asked for.
        block: u32,
        /// Blocks there are.
        n_blocks: usize,
    },
    /// A transfer buffer of the wrong size.
    #[error("block transfer of {got} bytes where a block has {want}")]
    BlockSize {
        /// Bytes given.
        got: usize,
        /// Bytes of a block.
        want: usize,
    },
    /// Memory for the step could not be had.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The device failed.
    #[error("device: {0}")]
    Device(String),
}
