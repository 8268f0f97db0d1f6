//! What came while a step was under way: between a plan and its commit the scheduler is not to be touched.

use scheduler::{ChainHash, SeqId};
use store::{BlockRecord, MissReason, StoreEvent};

use super::serving::Serving;

/// Something to do with a model's scheduler.
pub(crate) enum Postponed {
    /// The store has news.
    Hear(StoreEvent),
    /// The store has sent a piece of what a sequence waits for.
    Restored { seq: SeqId, piece: u64, found: Vec<Result<BlockRecord, MissReason>> },
    /// Take an agent's blocks out of the pool that are idle and saved.
    Evict(String, Vec<ChainHash>),
    /// Take an agent's blocks out of the pool that are idle, and never save them.
    Forget(String, Vec<ChainHash>),
    /// Pin what a pinned agent has in the pool, and nothing of another.
    Repin(String),
}

impl Serving {
    /// Do it now, or when the step under way has been committed.
    pub(crate) fn when_idle(&mut self, what: Postponed) {
        self.postponed.push(what);
        self.catch_up();
    }

    /// Do what had to wait for the step's end.
    pub(super) fn catch_up(&mut self) {
        if self.under_way.is_some() {
            return;
        }
        for what in std::mem::take(&mut self.postponed) {
            match what {
                Postponed::Hear(event) => self.hear(&event),
                Postponed::Restored { seq, piece, found } => self.restored(seq, piece, found),
                Postponed::Evict(agent, hashes) => {
                    self.release_pins(&agent);
                    self.evict(hashes);
                }
                Postponed::Forget(agent, hashes) => {
                    self.release_pins(&agent);
                    self.forget(hashes);
                }
                Postponed::Repin(agent) => self.repin(&agent),
            }
        }
    }
}
