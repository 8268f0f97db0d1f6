//! What the pool does with states: several blocks of one fate, of which the first stands for all.

use address::{BlockKey, ChainHash};

use super::BlockPool;
use crate::ids::BlockId;
use crate::plan::CheckpointClass;
use crate::state_blocks::{StateBlocks, checkpoint_key};

impl BlockPool {
    /// Take `n_blocks` blocks, at least one, for a state, as [`BlockPool::alloc`] takes each; the first one stands for
    /// all. `None` when there are not so many.
    pub fn alloc_state(
        &mut self,
        n_blocks: usize,
        class: CheckpointClass,
    ) -> Option<(BlockId, Vec<BlockKey>)> {
        if n_blocks > self.n_available() {
            return None;
        }
        let (first, mut evicted) = self.alloc()?;
        let mut others = Vec::with_capacity(n_blocks - 1);
        while others.len() + 1 < n_blocks {
            let (other, keys) = self.alloc()?;
            evicted.extend(keys);
            self.blocks[other.idx()].n_refs = 0;
            self.blocks[other.idx()].is_part = true;
            others.push(other);
        }
        self.blocks[first.idx()].state = Some(Box::new(StateBlocks::new(others, class)));
        self.n_live_state += n_blocks;
        Some((first, evicted))
    }

    /// Blocks of idle checkpoints that may be given up and are worth more than those of a class.
    fn n_evictable_state_above(&self, class: CheckpointClass) -> usize {
        let above = self.evictable_states.iter().rev().take_while(|(other, ..)| *other > class);
        above.map(|(_, _, id)| self.weight(*id)).sum()
    }

    /// The checkpoint of a prefix.
    pub fn checkpoint(&self, hash: &ChainHash) -> Option<BlockId> {
        self.lookup(&checkpoint_key(*hash))
    }

    /// All blocks of a state, in the order of its pieces.
    pub fn pieces(&self, id: BlockId) -> Vec<BlockId> {
        let others = self.blocks[id.idx()].state.iter().flat_map(|state| state.others.iter().copied());
        std::iter::once(id).chain(others).collect()
    }

    /// Whether a checkpoint of `n_blocks` of this class would find room that is nobody else's: what is free, and what is
    /// worth no more. Checkpoints are at most half of what is not held.
    pub fn has_room_for_checkpoint(&self, n_blocks: usize, class: CheckpointClass) -> bool {
        let n_worth_more = self.n_evictable_state_above(class);
        let n_available = self.n_available();
        n_blocks + n_worth_more <= n_available && 2 * (n_blocks + n_worth_more) <= n_available
    }

    /// Say what a checkpoint is kept for, if that is worth more than what it was kept for before.
    pub fn raise_class(&mut self, id: BlockId, class: CheckpointClass) {
        self.change(id, |block| {
            if let Some(state) = &mut block.state {
                state.class = state.class.max(class);
            }
        });
    }

    /// It is kept for nothing in particular any more, unless conversations share it.
    pub fn lower_class(&mut self, id: BlockId) {
        self.change(id, |block| {
            if let Some(state) =
                block.state.as_mut().filter(|state| state.class != CheckpointClass::SystemEnd)
            {
                state.class = CheckpointClass::Periodic;
            }
        });
    }

    /// A checkpoint goes to the store: it is unsaved until all its pieces are saved.
    pub fn begin_saving(&mut self, id: BlockId) {
        self.change(id, |block| {
            let n_pieces = block.weight();
            if let Some(state) = &mut block.state {
                state.unsaved = (0..n_pieces).collect();
                block.is_saved = false;
            }
        });
    }

    /// A piece of a checkpoint is saved, or need not be; with the last one all of it is.
    pub fn mark_piece_saved(&mut self, id: BlockId, piece: usize) {
        self.change(id, |block| {
            if let Some(state) = &mut block.state {
                let was_on_its_way = !state.unsaved.is_empty();
                state.unsaved.retain(|unsaved| *unsaved != piece);
                block.is_saved |= was_on_its_way && state.unsaved.is_empty();
            }
        });
    }

    /// Whether pieces of it are on their way to the store.
    pub fn is_being_saved(&self, id: BlockId) -> bool {
        self.blocks[id.idx()].state.as_ref().is_some_and(|state| !state.unsaved.is_empty())
    }

    /// Checkpoints whose pieces the store had not all saved.
    pub fn half_saved(&self) -> Vec<ChainHash> {
        let keys = self.keys().filter(|key| key.group.is_state());
        let is_half = |key: &&BlockKey| self.lookup(key).is_some_and(|id| self.is_being_saved(id));
        keys.filter(is_half).map(|key| key.hash).collect()
    }
}
