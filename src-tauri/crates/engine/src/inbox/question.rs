//! What a loader asks and waits for.

use std::sync::mpsc::SyncSender;

use crate::told::loader::Needs;
use crate::told::state::Failure;

/// A loader that wants to know how much memory it gets.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) needs: Needs,
    /// Where the answer goes: bytes of the pool.
    pub(crate) reply: SyncSender<Result<u64, Failure>>,
}
