//! What waits to be done by the store's threads, besides records to be written.

use std::collections::VecDeque;

use address::{BlockKey, ChainHash};

use crate::block_store::{Deliver, FlushReport, Wanted};
use crate::format::Position;

/// Something for the writer besides records.
pub(crate) enum Job {
    /// Bury a record that did not match its digest; of a state all records.
    Quarantine(BlockKey),
    /// Bury the states of these prefixes: they are replaced. What is saved of them from now on comes after this.
    Bury(Vec<ChainHash>),
    /// Erase agents that are in no list any more.
    Delete(Deletion),
}

/// How far the erasure of an agent is. Each list gets shorter as its files are done, so that it can be taken up
/// again after a failure.
#[derive(Default)]
pub(crate) struct Deletion {
    /// Hashes of the deleted manifests; taken when the work begins.
    pub(crate) hashes: Vec<ChainHash>,
    pub(crate) to_bury: Vec<BlockKey>,
    pub(crate) to_remove: Vec<String>,
    pub(crate) to_erase: Vec<Position>,
    pub(crate) done: Option<Box<dyn FnOnce() + Send>>,
}

/// A flush that somebody waits for.
pub(crate) struct Flush {
    /// Records up to this number belong to it.
    pub(crate) until: u64,
    pub(crate) saved_before: u64,
    pub(crate) not_saved_before: u64,
    pub(crate) done: Box<dyn FnOnce(FlushReport) + Send>,
}

/// A piece: blocks to read, and who waits for them.
pub(crate) struct Read {
    pub(crate) wanted: VecDeque<Wanted>,
    pub(crate) deliver: Deliver,
}

impl Read {
    pub(crate) fn new(wanted: Vec<Wanted>, deliver: Deliver) -> Read {
        Read { wanted: wanted.into(), deliver }
    }
}
