//! Segments: files of records, most of them complete, two of them growing.

use std::sync::Arc;

use address::BlockKey;

use crate::disk::DiskFile;
use crate::format::{Death, Position};
use crate::index::Spot;
use crate::record::BlockRecord;

/// A file of records.
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn DiskFile>,
    /// Its length.
    pub(crate) n_bytes: u64,
    /// Bytes of records that the index points to.
    pub(crate) live_bytes: u64,
    pub(crate) tombstones: Vec<Tombstone>,
    /// Such a segment goes when its room is needed, not before.
    pub(crate) is_other_version: bool,
}

/// A record that buries others.
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
}

impl Lane {
    pub(crate) const ALL: [Lane; 2] = [Lane::Whole, Lane::Window];

    pub(crate) fn of(key: &BlockKey) -> Lane {
        if key.group.is_window() { Lane::Window } else { Lane::Whole }
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
