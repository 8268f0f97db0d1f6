//! All blocks of the device: which are free, which are held, which are cache.
//!
//! ```text
//!          alloc                    release, has a key
//!  free ──────────▶ held (refs ≥ 1) ──────────────────▶ cached (refs 0)
//!   ▲                 │    ▲  ▲                            │   │
//!   └─ release, no key┘    │  └──── retain (a hit) ────────┘   │
//!                          └──── alloc: evict the oldest ──────┘   unless unsaved (store on) or pinned
//! ```
//!
//! A block that nobody holds keeps its content until its memory is needed: free memory is cache.

use std::collections::{BTreeSet, HashMap};

use address::BlockKey;

use crate::ids::BlockId;
use crate::plan::StoreMode;

/// How much an idle block is worth keeping; the least goes first, whatever its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retention {
    /// A window block that no boundary kept on purpose needs.
    OutOfReach,
    /// A block of a kept window.
    KeptWindow,
    /// A block that the next turn of its conversation needs.
    Prefix,
}

/// How many blocks are in which state; `n_free + n_held + n_cached == n_total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Blocks in the pool.
    pub n_total: usize,
    /// Blocks without content.
    pub n_free: usize,
    /// Blocks that at least one sequence holds.
    pub n_held: usize,
    /// Idle blocks that keep their content for reuse.
    pub n_cached: usize,
    /// Idle blocks that may be taken for something else at once.
    pub n_evictable: usize,
    /// Blocks, held or idle, whose content must be saved and is not yet.
    pub n_unsaved: usize,
    /// Blocks, held or idle, that are pinned.
    pub n_pinned: usize,
    /// Blocks whose content was dropped for something else, since the start.
    pub n_evictions: u64,
}

impl PoolCounts {
    /// Blocks that can be had at once.
    pub fn n_available(&self) -> usize {
        self.n_free + self.n_evictable
    }

    /// Blocks that cannot be had at once: held ones, and idle ones that are unsaved or pinned.
    pub fn n_unavailable(&self) -> usize {
        self.n_total - self.n_available()
    }
}

#[derive(Debug, Clone)]
struct Block {
    n_refs: u32,
    key: Option<BlockKey>,
    is_saved: bool,
    is_pinned: bool,
    retention: Retention,
    /// When it last became idle, in releases.
    idle_since: u64,
}

const EMPTY: Block = Block {
    n_refs: 0,
    key: None,
    is_saved: false,
    is_pinned: false,
    retention: Retention::OutOfReach,
    idle_since: 0,
};

/// The pool's bookkeeping; the bytes are the runner's.
#[derive(Debug, Clone)]
pub struct BlockPool {
    blocks: Vec<Block>,
    by_key: HashMap<BlockKey, BlockId>,
    free: Vec<BlockId>,
    /// Idle blocks that may be taken, next victim first. A sequence lets go of its blocks from the tail on, so
    /// among equals a prefix always outlives what follows it.
    evictable: BTreeSet<(Retention, u64, BlockId)>,
    store: StoreMode,
    n_releases: u64,
    n_held: usize,
    n_cached: usize,
    n_unsaved: usize,
    n_pinned: usize,
    n_evictions: u64,
    /// Addresses that came (true) or went since somebody took them, in order.
    moved: Vec<(BlockKey, bool)>,
}

impl BlockPool {
    /// A pool of `n_blocks` free blocks.
    pub fn new(n_blocks: usize, store: StoreMode) -> BlockPool {
        let n_blocks = n_blocks.min(u32::MAX as usize);
        BlockPool {
            blocks: vec![EMPTY; n_blocks],
            by_key: HashMap::new(),
            free: (0..n_blocks as u32).rev().map(BlockId).collect(),
            evictable: BTreeSet::new(),
            store,
            n_releases: 0,
            n_held: 0,
            n_cached: 0,
            n_unsaved: 0,
            n_pinned: 0,
            n_evictions: 0,
            moved: Vec::new(),
        }
    }

    /// Which addresses came (true) or went since the last call, in order.
    pub fn take_moved(&mut self) -> Vec<(BlockKey, bool)> {
        std::mem::take(&mut self.moved)
    }

    /// How many blocks are in which state.
    pub fn counts(&self) -> PoolCounts {
        PoolCounts {
            n_total: self.blocks.len(),
            n_free: self.free.len(),
            n_held: self.n_held,
            n_cached: self.n_cached,
            n_evictable: self.evictable.len(),
            n_unsaved: self.n_unsaved,
            n_pinned: self.n_pinned,
            n_evictions: self.n_evictions,
        }
    }

    /// Blocks that [`BlockPool::alloc`] could hand out now.
    pub fn n_available(&self) -> usize {
        self.free.len() + self.evictable.len()
    }

    /// Idle blocks that only wait for the store.
    pub fn n_idle_unsaved(&self) -> usize {
        let is_waiting = |b: &&Block| b.n_refs == 0 && b.key.is_some() && !b.is_saved && !b.is_pinned;
        if self.store == StoreMode::Off || self.n_unsaved == 0 {
            return 0;
        }
        self.blocks.iter().filter(is_waiting).count()
    }

    /// Take a block: a free one, else the idle one that is worth least, whose key is returned to be forgotten.
    pub fn alloc(&mut self) -> Option<(BlockId, Option<BlockKey>)> {
        let (id, evicted) = match self.free.pop() {
            Some(id) => (id, None),
            None => {
                let (_, _, id) = *self.evictable.first()?;
                let key = self.drop_content(id);
                self.n_evictions += 1;
                self.free.pop();
                (id, key)
            }
        };
        self.blocks[id.idx()].n_refs = 1;
        self.n_held += 1;
        Some((id, evicted))
    }

    /// One more holder of a held or cached block.
    pub fn retain(&mut self, id: BlockId) {
        if self.blocks[id.idx()].n_refs == 0 {
            self.leave_evictable(id);
            self.n_cached -= 1;
            self.n_held += 1;
        }
        self.blocks[id.idx()].n_refs += 1;
    }

    /// One holder less; the last one leaves the block cached if it has a key, else free.
    ///
    /// Release a sequence's blocks from its tail on: what is released last is evicted last.
    pub fn release(&mut self, id: BlockId, retention: Retention) {
        self.n_releases += 1;
        let stamp = self.n_releases;
        let block = &mut self.blocks[id.idx()];
        block.n_refs = block.n_refs.checked_sub(1).expect("only holders release");
        if block.n_refs > 0 {
            return;
        }
        self.n_held -= 1;
        if block.key.is_some() {
            block.retention = retention;
            block.idle_since = stamp;
            self.n_cached += 1;
            self.enter_evictable(id);
        } else {
            self.free.push(id);
        }
    }

    /// Give a held block its address, so that others find it; false when the address is taken.
    pub fn register(&mut self, id: BlockId, key: BlockKey, is_saved: bool) -> bool {
        if self.by_key.contains_key(&key) || self.blocks[id.idx()].key.is_some() {
            return false;
        }
        self.by_key.insert(key, id);
        self.moved.push((key, true));
        let block = &mut self.blocks[id.idx()];
        block.key = Some(key);
        block.is_saved = is_saved;
        self.n_unsaved += usize::from(!is_saved && self.store == StoreMode::On);
        true
    }

    /// The block of that address.
    pub fn lookup(&self, key: &BlockKey) -> Option<BlockId> {
        self.by_key.get(key).copied()
    }

    /// The addresses of all blocks that have one, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &BlockKey> {
        self.by_key.keys()
    }

    /// Whether its only holder may write into it: nobody else holds or could find it.
    pub fn is_private(&self, id: BlockId) -> bool {
        let block = &self.blocks[id.idx()];
        block.n_refs == 1 && block.key.is_none()
    }

    /// Whether it is cached and could be taken at once.
    pub fn is_evictable(&self, id: BlockId) -> bool {
        let block = &self.blocks[id.idx()];
        block.n_refs == 0 && block.key.is_some() && !self.is_kept(block)
    }

    /// Take the address off a block with a single holder, which may write into it from then on.
    ///
    /// Refused, with `None`, when others hold it or its content has still to be saved, or is pinned.
    pub fn take_over(&mut self, id: BlockId) -> Option<BlockKey> {
        let block = &self.blocks[id.idx()];
        if block.n_refs != 1 || self.is_kept(block) {
            return None;
        }
        self.forget_key(id)
    }

    /// Free an idle block at once if it is evictable; returns its key.
    pub fn evict(&mut self, id: BlockId) -> Option<BlockKey> {
        if !self.is_evictable(id) {
            return None;
        }
        self.n_evictions += 1;
        self.drop_content(id)
    }

    /// Take the address off a block whose content is wrong, kept or not; an idle one is free then.
    ///
    /// Refused when somebody holds it, except for the caller himself, who says so with `is_own`.
    pub fn forget(&mut self, id: BlockId, is_own: bool) -> bool {
        match self.blocks[id.idx()].n_refs {
            0 => self.drop_content(id).is_some(),
            1 if is_own => self.forget_key(id).is_some(),
            _ => false,
        }
    }

    /// The block is saved, or need not be.
    pub fn mark_saved(&mut self, id: BlockId) {
        self.change(id, |block| block.is_saved = true);
    }

    /// The block must be saved after all.
    pub fn mark_unsaved(&mut self, id: BlockId) {
        self.change(id, |block| block.is_saved = false);
    }

    /// Whether the block is saved.
    pub fn is_saved(&self, id: BlockId) -> bool {
        self.blocks[id.idx()].is_saved
    }

    /// Keep a block with a key when it is idle; false when half the pool is pinned.
    pub fn pin(&mut self, id: BlockId) -> bool {
        let block = &self.blocks[id.idx()];
        if block.key.is_none() || (!block.is_pinned && (self.n_pinned + 1) * 2 > self.blocks.len()) {
            return false;
        }
        self.change(id, |block| block.is_pinned = true);
        true
    }

    /// Undo [`BlockPool::pin`].
    pub fn unpin(&mut self, id: BlockId) {
        self.change(id, |block| block.is_pinned = false);
    }

    /// Whether a store is on.
    pub fn store(&self) -> StoreMode {
        self.store
    }

    /// Turn the rule that unsaved blocks are kept on or off.
    pub fn set_store(&mut self, store: StoreMode) {
        for id in (0..self.blocks.len() as u32).map(BlockId) {
            self.leave_evictable(id);
        }
        self.store = store;
        let is_unsaved = |b: &&Block| store == StoreMode::On && b.key.is_some() && !b.is_saved;
        self.n_unsaved = self.blocks.iter().filter(is_unsaved).count();
        for id in (0..self.blocks.len() as u32).map(BlockId) {
            self.enter_evictable(id);
        }
    }

    /// Check the pool against itself and against `holders`, the number of table entries for each block.
    ///
    /// # Errors
    /// Names the first contradiction.
    #[cfg(test)]
    pub(crate) fn check_integrity(&self, holders: &[u32]) -> Result<(), String> {
        let (mut n_free, mut n_held, mut n_cached, mut n_evictable) = (0, 0, 0, 0);
        let (mut n_keys, mut n_unsaved, mut n_pinned) = (0, 0, 0);
        for (idx, block) in self.blocks.iter().enumerate() {
            let id = BlockId(idx as u32);
            if block.n_refs != holders[idx] {
                return Err(format!("{id:?}: {} references, {} table entries", block.n_refs, holders[idx]));
            }
            match (block.n_refs, &block.key) {
                (0, None) => n_free += 1,
                (0, Some(_)) => n_cached += 1,
                _ => n_held += 1,
            }
            if let Some(key) = &block.key {
                n_keys += 1;
                if self.by_key.get(key) != Some(&id) {
                    return Err(format!("{id:?} has an address that leads elsewhere"));
                }
            }
            let is_listed = block.n_refs == 0 && block.key.is_some() && !self.is_kept(block);
            if is_listed {
                n_evictable += 1;
                if !self.evictable.contains(&(block.retention, block.idle_since, id)) {
                    return Err(format!("{id:?} is idle and not evictable"));
                }
            }
            n_unsaved += usize::from(block.key.is_some() && !block.is_saved && self.store == StoreMode::On);
            n_pinned += usize::from(block.is_pinned);
        }
        for id in &self.free {
            let block = &self.blocks[id.idx()];
            if block.n_refs != 0 || block.key.is_some() {
                return Err(format!("{id:?} is free and in use"));
            }
        }
        let counted = [n_free, n_held, n_cached, n_evictable, n_keys, n_unsaved, n_pinned];
        let booked = [
            self.free.len(),
            self.n_held,
            self.n_cached,
            self.evictable.len(),
            self.by_key.len(),
            self.n_unsaved,
            self.n_pinned,
        ];
        if counted != booked {
            return Err(format!(
                "free, held, cached, evictable, keys, unsaved, pinned: {counted:?}, booked {booked:?}"
            ));
        }
        if self.free.len() + self.n_held + self.n_cached != self.blocks.len() {
            return Err(format!("{booked:?} of {} blocks", self.blocks.len()));
        }
        Ok(())
    }

    /// When a cached block became idle, in releases.
    #[cfg(test)]
    pub(crate) fn idle_since(&self, id: BlockId) -> Option<u64> {
        let block = &self.blocks[id.idx()];
        (block.n_refs == 0 && block.key.is_some()).then_some(block.idle_since)
    }

    fn is_kept(&self, block: &Block) -> bool {
        block.is_pinned || (self.store == StoreMode::On && !block.is_saved)
    }

    fn enter_evictable(&mut self, id: BlockId) {
        if self.is_evictable(id) {
            let block = &self.blocks[id.idx()];
            self.evictable.insert((block.retention, block.idle_since, id));
        }
    }

    fn leave_evictable(&mut self, id: BlockId) {
        let block = &self.blocks[id.idx()];
        self.evictable.remove(&(block.retention, block.idle_since, id));
    }

    /// Change the flags of a block and with them its counts and its place among the evictable.
    fn change(&mut self, id: BlockId, flags: impl FnOnce(&mut Block)) {
        self.leave_evictable(id);
        let counts = |block: &Block, store| {
            (
                usize::from(block.key.is_some() && !block.is_saved && store == StoreMode::On),
                usize::from(block.is_pinned),
            )
        };
        let block = &mut self.blocks[id.idx()];
        let before = counts(block, self.store);
        flags(block);
        let after = counts(block, self.store);
        self.n_unsaved = self.n_unsaved + after.0 - before.0;
        self.n_pinned = self.n_pinned + after.1 - before.1;
        self.enter_evictable(id);
    }

    fn forget_key(&mut self, id: BlockId) -> Option<BlockKey> {
        self.change(id, |block| {
            block.is_pinned = false;
            block.is_saved = true;
        });
        self.leave_evictable(id);
        let key = self.blocks[id.idx()].key.take()?;
        self.blocks[id.idx()].is_saved = false;
        self.by_key.remove(&key);
        self.moved.push((key, false));
        Some(key)
    }

    /// Make a cached block free.
    fn drop_content(&mut self, id: BlockId) -> Option<BlockKey> {
        let key = self.forget_key(id);
        self.n_cached -= 1;
        self.free.push(id);
        key
    }
}
