//! Blocks of pinned agents that stay in the pool.

use std::collections::{BTreeMap, HashSet};

use scheduler::{BlockKey, Scheduler};

/// Which blocks of which agent are pinned in one model's pool. A block that several of them share is let go of with the
/// last one.
#[derive(Debug, Default)]
pub(crate) struct ResidentPins {
    by_agent: BTreeMap<String, Vec<BlockKey>>,
}

impl ResidentPins {
    /// From now on what of `keys` is in the pool stays there for this agent, and nothing else does. Where half of the
    /// pool is pinned the first ones stay, and how many are left out is returned: these are cache like any other.
    pub(crate) fn pin(&mut self, agent: &str, keys: &[BlockKey], scheduler: &mut Scheduler) -> usize {
        self.release(agent, scheduler);
        let pinned = scheduler.pin(keys);
        let n_left_out = scheduler.n_resident(keys) - pinned.len();
        self.by_agent.insert(agent.to_owned(), pinned);
        n_left_out
    }

    /// Nothing stays for this agent any more. Returns whether anything did.
    pub(crate) fn release(&mut self, agent: &str, scheduler: &mut Scheduler) -> bool {
        let Some(keys) = self.by_agent.remove(agent) else { return false };
        let still = self.keys();
        let free: Vec<BlockKey> = keys.into_iter().filter(|key| !still.contains(key)).collect();
        scheduler.unpin(&free);
        true
    }

    /// All that is pinned.
    pub(crate) fn keys(&self) -> HashSet<BlockKey> {
        self.by_agent.values().flatten().copied().collect()
    }
}
