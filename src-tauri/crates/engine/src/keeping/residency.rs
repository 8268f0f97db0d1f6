//! What of a model is in its pool and who uses it, for those who ask without the engine thread.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler::footprint::Footprint;
use scheduler::{BlockKey, KvLayout};

/// Written by the engine thread after each step.
pub(crate) struct Residency {
    pub(crate) footprint: Footprint,
    /// Guards the addresses in the pool; held to follow a step's changes, or for one copy.
    resident: Mutex<HashSet<BlockKey>>,
    /// Guards which of them stay there; held for a store or a look.
    pinned: Mutex<Arc<HashSet<BlockKey>>>,
    /// Guards how many requests of which agent run or wait; held for a store or a look.
    n_requests: Mutex<BTreeMap<String, usize>>,
}

impl Residency {
    /// An empty pool.
    pub(crate) fn new(layout: &KvLayout) -> Residency {
        Residency {
            footprint: Footprint::new(layout),
            resident: Mutex::default(),
            pinned: Mutex::default(),
            n_requests: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<BlockKey>> {
        self.resident.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These came into the pool (true) or went, in order.
    pub(crate) fn follow(&self, moved: Vec<(BlockKey, bool)>) {
        if moved.is_empty() {
            return;
        }
        let mut resident = self.lock();
        for (key, is_there) in moved {
            if is_there {
                resident.insert(key);
            } else {
                resident.remove(&key);
            }
        }
    }

    /// Everything that is in the pool now.
    pub(crate) fn resident(&self) -> HashSet<BlockKey> {
        self.lock().clone()
    }

    /// From now on these stay in the pool, and no others.
    pub(crate) fn set_pinned(&self, pinned: HashSet<BlockKey>) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(pinned);
    }

    /// Everything that stays in the pool.
    pub(crate) fn pinned(&self) -> Arc<HashSet<BlockKey>> {
        Arc::clone(&self.pinned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these agents have so many requests, and others none.
    pub(crate) fn set_requests(&self, n_requests: BTreeMap<String, usize>) {
        *self.n_requests.lock().unwrap_or_else(PoisonError::into_inner) = n_requests;
    }

    /// How many requests of an agent run or wait.
    pub(crate) fn n_requests(&self, agent: &str) -> usize {
        self.n_requests.lock().unwrap_or_else(PoisonError::into_inner).get(agent).copied().unwrap_or(0)
    }
}
