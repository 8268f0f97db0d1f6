//! The blocks of one state: several, of which the first stands for all.

use address::{BlockKey, ChainHash, GroupId};

use crate::ids::BlockId;
use crate::plan::CheckpointClass;

/// What the first block of a state knows of the others.
#[derive(Debug, Clone)]
pub(crate) struct StateBlocks {
    /// The blocks of its further pieces, in their order.
    pub(crate) others: Vec<BlockId>,
    /// What it is kept for.
    pub(crate) class: CheckpointClass,
    /// Pieces that are on their way to the store.
    pub(crate) unsaved: Vec<usize>,
}

impl StateBlocks {
    pub(crate) fn new(others: Vec<BlockId>, class: CheckpointClass) -> StateBlocks {
        StateBlocks { others, class, unsaved: Vec::new() }
    }
}

/// The address by which the pool finds a block: of all pieces of a state that of the first.
pub(crate) fn entry_key(key: &BlockKey) -> BlockKey {
    if key.group.is_state() { checkpoint_key(key.hash) } else { *key }
}

/// The address by which the pool finds the checkpoint of a prefix.
pub(crate) fn checkpoint_key(hash: ChainHash) -> BlockKey {
    BlockKey { hash, group: GroupId::state(0) }
}
