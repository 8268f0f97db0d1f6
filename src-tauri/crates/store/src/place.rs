//! Where a block's bytes are.

use std::sync::Arc;

use crate::format::Position;
use crate::record::BlockRecord;

/// Where a block's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In memory; not durable yet.
    Queued(Arc<BlockRecord>),
    /// On disk, and durable.
    Disk(Spot),
}

impl Place {
    /// Where on disk.
    pub(crate) fn spot(&self) -> Option<Spot> {
        match self {
            Place::Queued(_) => None,
            Place::Disk(spot) => Some(*spot),
        }
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.spot().is_some()
    }

    /// What it takes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.spot().map_or(0, |spot| spot.n_bytes)
    }
}

/// A record on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) at: Position,
    /// Header and body.
    pub(crate) n_bytes: u64,
}
