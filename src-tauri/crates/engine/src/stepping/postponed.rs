//! What came while a step was under way: between a plan and its commit the scheduler is not to be touched.

use scheduler::{ChainHash, SeqId};
use store::{BlockRecord, MissReason, StoreEvent};

/// Something to do with a model's scheduler.
pub(crate) enum Postponed {
    /// The store has news.
    Hear(StoreEvent),
    /// The store has sent a piece of what a sequence waits for.
    Restored { seq: SeqId, piece: u64, found: Vec<Result<BlockRecord, MissReason>> },
    /// Have an agent's states written.
    WriteStates(String),
    /// Take an agent's blocks out of the pool that are idle and saved.
    Evict(String, Vec<ChainHash>),
    /// Take an agent's blocks out of the pool that are idle, and never save them.
    Forget(String, Vec<ChainHash>),
    /// Pin what a pinned agent has in the pool, and nothing of another.
    Repin(String),
}
