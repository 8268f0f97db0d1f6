//! What becomes of a sequence's blocks: they get addresses, slide out of windows, are let go, come from the store.

use std::collections::HashSet;

use address::{BlockKey, ChainHash};

use crate::block_pool::Retention;
use crate::plan::{CompletedBlock, RestoreBlock, StoreMode};
use crate::prefix_cache::Registered;
use crate::scheduler::Scheduler;
use crate::sequence::{Sequence, TailSaving, block_at};

impl Scheduler {
    /// Give every whole computed block its address; one that another sequence computed too is shared from now on.
    pub(crate) fn register_whole_blocks(&mut self, seq: &mut Sequence) {
        let block_tokens = self.cache.footprint.block_tokens();
        while (seq.n_registered + 1) * block_tokens <= seq.n_computed {
            let block_idx = seq.n_registered;
            if !self.register(seq, block_idx, seq.hashes[block_idx], TailSaving::Wanted) {
                return;
            }
            seq.n_registered += 1;
        }
    }

    /// Give the last, partial block of a sequence that ends its address.
    pub(crate) fn register_tail(&mut self, seq: &mut Sequence, saving: TailSaving) {
        let block_tokens = self.cache.footprint.block_tokens();
        let start = seq.n_computed - seq.n_computed % block_tokens;
        if start == seq.n_computed || seq.n_registered * block_tokens != start {
            return;
        }
        let parent = seq.parent_of(start, block_tokens, &self.cache.hasher);
        let hash = self.cache.hasher.child(&parent, &seq.tokens[start..seq.n_computed]);
        self.register(seq, start / block_tokens, hash, saving);
    }

    /// Register one block of a sequence in every group; false when the address belongs to other tokens.
    fn register(
        &mut self,
        seq: &mut Sequence,
        block_idx: usize,
        hash: ChainHash,
        saving: TailSaving,
    ) -> bool {
        let block_tokens = self.cache.footprint.block_tokens();
        let start = block_idx * block_tokens;
        let end = seq.n_computed.min(start + block_tokens);
        let parent = seq.parent_of(start, block_tokens, &self.cache.hasher);
        for group_idx in 0..seq.tables.len() {
            let Some(block) = block_at(&seq.tables[group_idx], block_idx) else { continue };
            if !self.cache.pool.is_private(block) {
                continue;
            }
            let key = self.cache.footprint.key(hash, group_idx);
            let tokens = &seq.tokens[start..end];
            match self.cache.register(block, key, &parent, tokens, saving == TailSaving::Unwanted) {
                Registered::Collision => return false,
                Registered::Taken(other) => {
                    self.cache.pool.retain(other);
                    self.cache.pool.release(block, Retention::OutOfReach);
                    let table = &mut seq.tables[group_idx];
                    table.blocks[block_idx - table.first_block] = other;
                }
                Registered::New
                    if self.cache.pool.store() == StoreMode::On && saving == TailSaving::Wanted =>
                {
                    let tokens = tokens.to_vec();
                    let seq = Some(seq.id);
                    self.completed.push(CompletedBlock { block, key, parent, block_idx, tokens, seq });
                }
                Registered::New => {}
            }
        }
        true
    }

    /// Let go of the window blocks that no later query looks into.
    pub(crate) fn slide_windows(&mut self, seq: &mut Sequence) {
        let footprint = &self.cache.footprint;
        for (group_idx, table) in seq.tables.iter_mut().enumerate() {
            let n_behind =
                footprint.first_needed(group_idx, seq.n_computed).saturating_sub(table.first_block);
            for block in table.blocks.drain(..n_behind.min(table.blocks.len())) {
                let every = self.config.window_kept_every;
                let is_kept =
                    footprint.is_of_kept_window(group_idx, table.first_block, &seq.kept_windows, every);
                let retention = if is_kept { Retention::KeptWindow } else { Retention::OutOfReach };
                self.cache.pool.release(block, retention);
                table.first_block += 1;
            }
        }
    }

    /// Let go of every block of a sequence, from its tail on, so that its start is evicted last.
    pub(crate) fn release_all(&mut self, seq: &mut Sequence) {
        for restoring in seq.restoring.drain(..).rev() {
            if restoring.wanted.key.group.is_state() {
                continue;
            }
            self.cache.pool.release(restoring.wanted.block, Retention::OutOfReach);
        }
        self.release_holds(seq);
        self.release_states(seq);
        let end = seq.tables.iter().map(|table| table.first_block + table.blocks.len()).max().unwrap_or(0);
        for block_idx in (0..end).rev() {
            for table in &seq.tables {
                if let Some(block) = block_at(table, block_idx) {
                    self.cache.pool.release(block, Retention::Prefix);
                }
            }
        }
        seq.tables.fill(Default::default());
        seq.n_computed = 0;
        seq.n_registered = 0;
    }

    /// Let go of the blocks that were kept for an admission.
    pub(crate) fn release_holds(&mut self, seq: &mut Sequence) {
        for block in seq.holds.drain(..).rev() {
            self.cache.pool.release(block, Retention::Prefix);
        }
    }

    /// Register the blocks that were imported, as far as their prefixes are there, and free the others. Returns whether a
    /// state was to come that has not come whole.
    pub(crate) fn keep_imported(&mut self, seq: &mut Sequence, imported: &[BlockKey]) -> bool {
        let imported: HashSet<&BlockKey> = imported.iter().collect();
        let mut kept = Vec::new();
        let mut state = None;
        let mut n_pieces = 0;
        for restoring in std::mem::take(&mut seq.restoring) {
            let RestoreBlock { block, key, tokens } = restoring.wanted;
            if key.group.is_state() {
                n_pieces += usize::from(imported.contains(&key));
                state = Some((key.hash, restoring.parent, tokens));
                continue;
            }
            let parent = BlockKey { hash: restoring.parent, group: key.group };
            let has_prefix = !self.cache.footprint.is_full(key.group.idx())
                || restoring.parent == self.cache.hasher.root()
                || self.cache.pool.lookup(&parent).is_some();
            if imported.contains(&key)
                && has_prefix
                && self.cache.register(block, key, &restoring.parent, &tokens, true) == Registered::New
            {
                kept.push(block);
            } else {
                self.cache.pool.release(block, Retention::OutOfReach);
            }
        }
        seq.holds.extend(kept);
        let is_whole = n_pieces == self.cache.footprint.n_pieces();
        let is_lost = state.is_some() && !is_whole;
        self.keep_restored_state(seq, state.filter(|_| is_whole));
        is_lost
    }
}
