//! Segments: files of records, most of them complete, up to three of them growing.

use std::sync::Arc;

use address::BlockKey;

use crate::disk::DiskFile;
use crate::format::{Death, Position};
use crate::place::Spot;
use crate::record::BlockRecord;

/// A file of records.
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn DiskFile>,
    /// Its length.
    pub(crate) n_bytes: u64,
    /// Bytes of records that the index points to.
    pub(crate) live_bytes: u64,
    pub(crate) tombstones: Vec<Tombstone>,
    /// Whose records it has.
    pub(crate) lane: Lane,
    /// Such a segment goes when its room is needed, not before.
    pub(crate) is_other_version: bool,
}

/// A record that buries others: those of a block, or of all pieces of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) key: BlockKey,
    pub(crate) why: Death,
    pub(crate) raised_at: Position,
}

/// A segment that grows.
pub(crate) struct Active {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) end: u64,
    pub(crate) synced_end: u64,
    /// Written and not synced.
    pub(crate) unsynced: Vec<(Arc<BlockRecord>, Spot)>,
    pub(crate) moves: Vec<Move>,
    pub(crate) tombstones: Vec<Tombstone>,
}

/// Which of the segments that grow a record goes to. All records of a key are in segments of one lane, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Of what is read again as a whole.
    Whole,
    /// Of what is read again at its end only.
    Window,
    /// Of states, which die soon: a later one of the conversation takes their place. It is synced after the others, so
    /// that no state is durable before the blocks that it stands on.
    State,
}

impl Lane {
    /// In the order in which they are synced.
    pub(crate) const ALL: [Lane; 3] = [Lane::Whole, Lane::Window, Lane::State];

    pub(crate) fn of(key: &BlockKey) -> Lane {
        match (key.group.is_state(), key.group.is_window()) {
            (true, _) => Lane::State,
            (false, true) => Lane::Window,
            (false, false) => Lane::Whole,
        }
    }
}

/// A record that was copied, and is not synced at its new place.
pub(crate) struct Move {
    pub(crate) key: BlockKey,
    pub(crate) from: Spot,
    pub(crate) to: Spot,
}

/// What is written, and so how far it may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Something new: it leaves the reserve alone, and older blocks are given up for it.
    Save,
    /// A copy or a tombstone: what makes room in the end.
    Move,
}

/// Whether a segment is to be said to be complete.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    Wanted,
    Not,
}
