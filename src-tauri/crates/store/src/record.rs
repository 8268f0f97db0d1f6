//! A block with all that is needed to use it again.

use address::{BlockKey, ChainHash, GroupId};

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
    /// It is a piece of a state that recurrent layers are to go on from.
    Checkpoint {
        /// How many pieces the whole state has; without one of them the others are of no use.
        n_pieces: u16,
    },
}

impl SaveReason {
    /// How many pieces the state has that the record is a piece of; none where it is none.
    pub(crate) fn n_pieces(self) -> u16 {
        match self {
            SaveReason::Checkpoint { n_pieces } => n_pieces,
            SaveReason::BlockFull | SaveReason::Tail | SaveReason::Drain => 0,
        }
    }

    /// Whether a record of `key` can have been written for this reason: pieces of a state, and they only, are written
    /// as those of a checkpoint.
    pub(crate) fn fits(self, key: &BlockKey) -> bool {
        match self {
            SaveReason::Checkpoint { n_pieces } => {
                let n_pieces = usize::from(n_pieces);
                let is_piece = key.group.is_state() && !key.group.is_window();
                is_piece && key.group.idx() < n_pieces && n_pieces <= GroupId::MAX
            }
            SaveReason::BlockFull | SaveReason::Tail | SaveReason::Drain => !key.group.is_state(),
        }
    }
}

/// What becomes of a record is booked, and buried, under this key: a block's own, and that of its first piece for all
/// pieces of a state.
pub(crate) fn fate_of(key: &BlockKey) -> BlockKey {
    if key.group.is_state() { BlockKey { group: GroupId::state(0), ..*key } } else { *key }
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
