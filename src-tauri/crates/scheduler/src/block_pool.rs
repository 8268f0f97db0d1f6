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
//!
//! A state of recurrent layers is several blocks with one fate: the first stands for all in everything that is done here,
//! and counts as many. One with an address is a checkpoint.

use std::collections::{BTreeSet, HashMap};

use address::{BlockKey, GroupId};

use crate::ids::BlockId;
use crate::plan::{CheckpointClass, StoreMode};
use crate::state_blocks::{StateBlocks, checkpoint_key, entry_key};

#[cfg(test)]
mod integrity;
mod states;

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
    /// Of the held ones, those of the states of running sequences.
    pub n_live_state: usize,
    /// States that are kept for reuse.
    pub n_checkpoints: usize,
    /// Their blocks, held or idle.
    pub n_checkpoint_blocks: usize,
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
    /// What makes it the first block of a state.
    state: Option<Box<StateBlocks>>,
    /// Whether it is another one of a state.
    is_part: bool,
}

const EMPTY: Block = Block {
    n_refs: 0,
    key: None,
    is_saved: false,
    is_pinned: false,
    retention: Retention::OutOfReach,
    idle_since: 0,
    state: None,
    is_part: false,
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
    /// Idle checkpoints that may be taken, next victim first.
    evictable_states: BTreeSet<(CheckpointClass, u64, BlockId)>,
    /// Blocks of both.
    n_evictable: usize,
    /// Blocks of the latter.
    n_evictable_state: usize,
    store: StoreMode,
    n_releases: u64,
    n_held: usize,
    n_cached: usize,
    n_unsaved: usize,
    n_pinned: usize,
    n_evictions: u64,
    n_live_state: usize,
    n_checkpoints: usize,
    n_checkpoint_blocks: usize,
    /// Addresses that came (true) or went since somebody took them, in order.
    moved: Vec<(BlockKey, bool)>,
}

impl Block {
    /// As how many blocks it counts.
    fn weight(&self) -> usize {
        self.state.as_ref().map_or(1, |state| 1 + state.others.len())
    }
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
            evictable_states: BTreeSet::new(),
            n_evictable: 0,
            n_evictable_state: 0,
            store,
            n_releases: 0,
            n_held: 0,
            n_cached: 0,
            n_unsaved: 0,
            n_pinned: 0,
            n_evictions: 0,
            n_live_state: 0,
            n_checkpoints: 0,
            n_checkpoint_blocks: 0,
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
            n_evictable: self.n_evictable,
            n_unsaved: self.n_unsaved,
            n_pinned: self.n_pinned,
            n_evictions: self.n_evictions,
            n_live_state: self.n_live_state,
            n_checkpoints: self.n_checkpoints,
            n_checkpoint_blocks: self.n_checkpoint_blocks,
        }
    }

    /// Blocks that [`BlockPool::alloc`] could hand out now.
    pub fn n_available(&self) -> usize {
        self.free.len() + self.n_evictable
    }

    /// Idle blocks that only wait for the store.
    pub fn n_idle_unsaved(&self) -> usize {
        let is_waiting = |b: &&Block| b.n_refs == 0 && b.key.is_some() && !b.is_saved && !b.is_pinned;
        if self.store == StoreMode::Off || self.n_unsaved == 0 {
            return 0;
        }
        self.blocks.iter().filter(is_waiting).map(Block::weight).sum()
    }

    /// Take a block: a free one, else the idle one that is worth least; the keys of what was given up for it are
    /// returned to be forgotten.
    pub fn alloc(&mut self) -> Option<(BlockId, Vec<BlockKey>)> {
        let evicted = if self.free.is_empty() { self.evict_least() } else { Vec::new() };
        let id = self.free.pop()?;
        self.blocks[id.idx()].n_refs = 1;
        self.n_held += 1;
        Some((id, evicted))
    }

    /// Give up the idle block, or checkpoint, that is worth least, and with a block of all earlier positions the
    /// checkpoint that stands on it; their keys.
    ///
    /// Checkpoints go first only while they are more than half of what can be given up.
    fn evict_least(&mut self) -> Vec<BlockKey> {
        let block = self.evictable.first().map(|(_, _, id)| *id);
        let state = self.evictable_states.first().map(|(_, _, id)| *id);
        let is_too_much = 2 * self.n_evictable_state > self.n_evictable;
        let Some(victim) = (if is_too_much { state.or(block) } else { block.or(state) }) else {
            return Vec::new();
        };
        let mut evicted: Vec<BlockKey> = self.evict(victim).into_iter().collect();
        let standing = evicted.first().filter(|key| !key.group.is_window() && !key.group.is_state());
        if let Some(state) = standing.and_then(|key| self.lookup(&checkpoint_key(key.hash))) {
            evicted.extend(self.evict(state));
        }
        evicted
    }

    /// One more holder of a held or cached block.
    pub fn retain(&mut self, id: BlockId) {
        if self.blocks[id.idx()].n_refs == 0 {
            self.leave_evictable(id);
            let weight = self.weight(id);
            self.n_cached -= weight;
            self.n_held += weight;
        }
        self.blocks[id.idx()].n_refs += 1;
    }

    /// One holder less; the last one leaves the block cached if it has a key, else free.
    ///
    /// Release a sequence's blocks from its tail on: what is released last is evicted last.
    pub fn release(&mut self, id: BlockId, retention: Retention) {
        self.n_releases += 1;
        let (stamp, weight) = (self.n_releases, self.weight(id));
        let block = &mut self.blocks[id.idx()];
        block.n_refs = block.n_refs.checked_sub(1).expect("only holders release");
        if block.n_refs > 0 {
            return;
        }
        self.n_held -= weight;
        if block.key.is_some() {
            block.retention = retention;
            block.idle_since = stamp;
            self.n_cached += weight;
            self.enter_evictable(id);
        } else {
            self.free(id);
        }
    }

    /// Give a held block its address, so that others find it; false when the address is taken.
    pub fn register(&mut self, id: BlockId, key: BlockKey, is_saved: bool) -> bool {
        if self.by_key.contains_key(&key) || self.blocks[id.idx()].key.is_some() {
            return false;
        }
        self.by_key.insert(key, id);
        self.note_moved(id, key, true);
        let weight = self.weight(id);
        let block = &mut self.blocks[id.idx()];
        block.key = Some(key);
        block.is_saved = is_saved;
        if block.state.is_some() {
            self.n_live_state -= weight;
            self.n_checkpoints += 1;
            self.n_checkpoint_blocks += weight;
        }
        self.n_unsaved += if !is_saved && self.store == StoreMode::On { weight } else { 0 };
        true
    }

    /// The block of that address; of any piece of a state the first block, which stands for all.
    pub fn lookup(&self, key: &BlockKey) -> Option<BlockId> {
        self.by_key.get(&entry_key(key)).copied()
    }

    /// The addresses of all blocks that have one, in no order; of a state the first piece's.
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
        self.n_evictions += self.weight(id) as u64;
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

    /// The block is saved, or need not be; of a checkpoint all of it.
    pub fn mark_saved(&mut self, id: BlockId) {
        self.change(id, |block| {
            block.is_saved = true;
            block.state.iter_mut().for_each(|state| state.unsaved.clear());
        });
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
        let n_pinned = self.n_pinned + block.weight();
        if block.key.is_none() || (!block.is_pinned && n_pinned * 2 > self.blocks.len()) {
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
        self.n_unsaved = self.blocks.iter().filter(is_unsaved).map(Block::weight).sum();
        for id in (0..self.blocks.len() as u32).map(BlockId) {
            self.enter_evictable(id);
        }
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
        if !self.is_evictable(id) {
            return;
        }
        let block = &self.blocks[id.idx()];
        let weight = block.weight();
        let is_new = match &block.state {
            None => self.evictable.insert((block.retention, block.idle_since, id)),
            Some(state) => self.evictable_states.insert((state.class, block.idle_since, id)),
        };
        if is_new {
            self.n_evictable += weight;
            self.n_evictable_state += if self.blocks[id.idx()].state.is_some() { weight } else { 0 };
        }
    }

    fn leave_evictable(&mut self, id: BlockId) {
        let block = &self.blocks[id.idx()];
        let weight = block.weight();
        let was_there = match &block.state {
            None => self.evictable.remove(&(block.retention, block.idle_since, id)),
            Some(state) => self.evictable_states.remove(&(state.class, block.idle_since, id)),
        };
        if was_there {
            self.n_evictable -= weight;
            self.n_evictable_state -= if self.blocks[id.idx()].state.is_some() { weight } else { 0 };
        }
    }

    /// Change the flags of a block and with them its counts and its place among the evictable.
    fn change(&mut self, id: BlockId, flags: impl FnOnce(&mut Block)) {
        self.leave_evictable(id);
        let counts = |block: &Block, store| {
            let is_unsaved = block.key.is_some() && !block.is_saved && store == StoreMode::On;
            (if is_unsaved { block.weight() } else { 0 }, if block.is_pinned { block.weight() } else { 0 })
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
            block.state.iter_mut().for_each(|state| state.unsaved.clear());
        });
        self.leave_evictable(id);
        let key = self.blocks[id.idx()].key.take()?;
        self.by_key.remove(&key);
        self.note_moved(id, key, false);
        let weight = self.weight(id);
        let block = &mut self.blocks[id.idx()];
        block.is_saved = false;
        if block.state.is_some() {
            self.n_live_state += weight;
            self.n_checkpoints -= 1;
            self.n_checkpoint_blocks -= weight;
        }
        Some(key)
    }

    /// Make a cached block free.
    fn drop_content(&mut self, id: BlockId) -> Option<BlockKey> {
        let key = self.forget_key(id);
        self.n_cached -= self.weight(id);
        self.free(id);
        key
    }

    /// Put a block that nobody holds, and that has no address, among the free ones; of a state all.
    fn free(&mut self, id: BlockId) {
        if let Some(state) = self.blocks[id.idx()].state.take() {
            self.n_live_state -= 1 + state.others.len();
            for other in state.others.into_iter().rev() {
                self.blocks[other.idx()].is_part = false;
                self.free.push(other);
            }
        }
        self.free.push(id);
    }

    /// As how many blocks it counts.
    pub(crate) fn weight(&self, id: BlockId) -> usize {
        self.blocks[id.idx()].weight()
    }

    /// Tell that an address came or went; of a state those of all pieces.
    fn note_moved(&mut self, id: BlockId, key: BlockKey, has_come: bool) {
        self.moved.push((key, has_come));
        if key.group.is_state() {
            let others = (1..self.weight(id)).map(|piece| BlockKey { group: GroupId::state(piece), ..key });
            self.moved.extend(others.map(|key| (key, has_come)));
        }
    }
}
