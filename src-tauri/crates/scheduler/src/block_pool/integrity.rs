//! Whether what the pool counts is what there is.

use super::BlockPool;
use crate::ids::BlockId;
use crate::plan::StoreMode;

impl BlockPool {
    /// Check the pool against itself and against `holders`, the number of table entries for each block.
    ///
    /// # Errors
    /// Names the first contradiction.
    pub(crate) fn check_integrity(&self, holders: &[u32]) -> Result<(), String> {
        let (mut n_free, mut n_held, mut n_cached, mut n_evictable) = (0, 0, 0, 0);
        let (mut n_keys, mut n_unsaved, mut n_pinned) = (0, 0, 0);
        let (mut n_parts, mut n_others) = (0, 0);
        let (mut n_live_state, mut n_checkpoints, mut n_checkpoint_blocks) = (0, 0, 0);
        for (idx, block) in self.blocks.iter().enumerate() {
            let id = BlockId(idx as u32);
            if block.n_refs != holders[idx] {
                return Err(format!("{id:?}: {} references, {} table entries", block.n_refs, holders[idx]));
            }
            if block.is_part {
                n_parts += 1;
                continue;
            }
            match (block.n_refs, &block.key) {
                (0, None) => n_free += 1,
                (0, Some(_)) => n_cached += block.weight(),
                _ => n_held += block.weight(),
            }
            if let Some(state) = &block.state {
                n_others += state.others.len();
                let is_bound = |other: &BlockId| self.blocks[other.idx()].is_part;
                if !state.others.iter().all(is_bound) {
                    return Err(format!("{id:?} stands for blocks that are not a state's"));
                }
                match block.key {
                    None => n_live_state += block.weight(),
                    Some(_) => n_checkpoint_blocks += block.weight(),
                }
                n_checkpoints += usize::from(block.key.is_some());
                if block.key.is_some_and(|key| !key.group.is_state()) {
                    return Err(format!("{id:?} is a state with a block's address"));
                }
            }
            if let Some(key) = &block.key {
                n_keys += 1;
                if self.by_key.get(key) != Some(&id) {
                    return Err(format!("{id:?} has an address that leads elsewhere"));
                }
            }
            let is_listed = block.n_refs == 0 && block.key.is_some() && !self.is_kept(block);
            if is_listed {
                n_evictable += block.weight();
                let is_there = match &block.state {
                    None => self.evictable.contains(&(block.retention, block.idle_since, id)),
                    Some(state) => self.evictable_states.contains(&(state.class, block.idle_since, id)),
                };
                if !is_there {
                    return Err(format!("{id:?} is idle and not evictable"));
                }
            }
            let is_unsaved = block.key.is_some() && !block.is_saved && self.store == StoreMode::On;
            n_unsaved += if is_unsaved { block.weight() } else { 0 };
            n_pinned += if block.is_pinned { block.weight() } else { 0 };
        }
        for id in &self.free {
            let block = &self.blocks[id.idx()];
            if block.n_refs != 0 || block.key.is_some() || block.is_part || block.state.is_some() {
                return Err(format!("{id:?} is free and in use"));
            }
        }
        if n_parts != n_others {
            return Err(format!("{n_parts} blocks of states, {n_others} of those that stand for them"));
        }
        let counted = [n_live_state, n_checkpoints, n_checkpoint_blocks];
        let booked = [self.n_live_state, self.n_checkpoints, self.n_checkpoint_blocks];
        if counted != booked {
            return Err(format!("live state, checkpoints, their blocks: {counted:?}, booked {booked:?}"));
        }
        let counted = [n_free, n_held, n_cached, n_evictable, n_keys, n_unsaved, n_pinned];
        let booked = [
            self.free.len(),
            self.n_held,
            self.n_cached,
            self.n_evictable,
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
}
