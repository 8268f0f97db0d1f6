//! The states of recurrent layers: where they are kept, and what becomes of them.
//!
//! A running sequence has one state, which goes on with its tokens and cannot be cut back. A checkpoint is a copy of it
//! at a block's end, or the state itself at the end of a sequence, and has that prefix's address:
//!
//! ```text
//!  places   ······S·········P·······R··G            S system's end  P periodic  R return point  G generation start
//!  tokens   [ b0 ][ b1 ][ b2 ][ b3 ][ b4 ].answer.A
//!  live     ──────▶─────────▶───────▶──▶──────────▶ becomes A, the answer's end, when the sequence ends
//!                 └ copied at each place while the row runs
//! ```

use address::{BlockKey, ChainHash};

use crate::block_pool::Retention;
use crate::ids::{BlockId, SeqId, TokenId};
use crate::plan::{Checkpoint, CheckpointClass, CompletedBlock, StoreMode};
use crate::prefix_cache::{Hit, Registered};
use crate::scheduler::Scheduler;
use crate::sequence::Sequence;
use crate::sequence_state::{PlannedSave, SequenceState};
use crate::state_blocks::checkpoint_key;
use crate::step::{BlockCopy, RowState, StateSave, Step};

/// What the end of some leading tokens is called, and what it follows.
struct Boundary<'a> {
    hash: ChainHash,
    parent: ChainHash,
    /// Of the last block, or of the part of it that there is.
    tokens: &'a [TokenId],
}

impl Sequence {
    fn boundary<'a>(&'a self, n_tokens: usize, scheduler: &Scheduler) -> Boundary<'a> {
        let (block_tokens, hasher) = (scheduler.cache.footprint.block_tokens(), &scheduler.cache.hasher);
        let start = n_tokens.saturating_sub(1) / block_tokens * block_tokens;
        let parent = self.parent_of(start, block_tokens, hasher);
        let tokens = &self.tokens[start..n_tokens];
        let whole = self.hashes.get(start / block_tokens).filter(|_| tokens.len() == block_tokens);
        Boundary { hash: whole.copied().unwrap_or_else(|| hasher.child(&parent, tokens)), parent, tokens }
    }
}

impl Scheduler {
    /// Places that sequences came by since the last call and at which a state was to be kept, in order.
    pub fn take_checkpoints(&mut self) -> Vec<Checkpoint> {
        std::mem::take(&mut self.checkpoints)
    }

    /// The checkpoint of this prefix is to be written before its memory may be taken; false when there is none, or no
    /// store.
    pub fn hold_state(&mut self, hash: &ChainHash) -> bool {
        let checkpoint = self.cache.pool.checkpoint(hash).filter(|_| self.store() == StoreMode::On);
        checkpoint.iter().for_each(|block| self.cache.pool.mark_unsaved(*block));
        checkpoint.is_some()
    }

    /// The checkpoint of this prefix need not be written any more.
    pub fn release_state(&mut self, hash: &ChainHash) {
        if let Some(block) = self.cache.pool.checkpoint(hash) {
            self.cache.pool.mark_saved(block);
            self.completed.retain(|completed| !completed.key.group.is_state() || completed.key.hash != *hash);
        }
    }

    /// Report the pieces of the checkpoint of this prefix by [`Scheduler::take_completed`], unless they are on their
    /// way; false when there is none, or no store.
    pub fn save_state(&mut self, hash: &ChainHash) -> bool {
        let Some(block) = self.cache.pool.checkpoint(hash).filter(|_| self.store() == StoreMode::On) else {
            return false;
        };
        if !self.cache.pool.is_being_saved(block) {
            self.cache.pool.begin_saving(block);
            self.report_state(hash);
        }
        true
    }

    /// The conversation that the checkpoint of this prefix was kept for has a newer one: it goes before all that are
    /// still kept for something. What conversations share stays what it is.
    pub fn lower_state(&mut self, hash: &ChainHash) {
        if let Some(block) = self.cache.pool.checkpoint(hash) {
            self.cache.pool.lower_class(block);
        }
    }

    /// Whether there is a checkpoint of this prefix.
    pub fn has_state(&self, hash: &ChainHash) -> bool {
        self.cache.pool.checkpoint(hash).is_some()
    }

    /// Report the pieces of a checkpoint, which counts as on its way.
    pub(crate) fn report_state(&mut self, hash: &ChainHash) {
        let cache = &self.cache;
        let (Some(block), Some(parent)) = (cache.pool.checkpoint(hash), cache.index.parent(hash)) else {
            return;
        };
        let tokens = cache.tokens(hash).unwrap_or_default();
        let pieces = cache.pool.pieces(block).into_iter().zip(cache.footprint.state_keys(*hash));
        self.completed.extend(pieces.map(|(block, key)| CompletedBlock {
            block,
            key,
            parent,
            block_idx: 0,
            tokens: tokens.to_vec(),
            seq: None,
        }));
    }

    /// Blocks of states that a sequence takes from `n_tokens` on until its prompt is computed: its own, and those of the
    /// checkpoint that is set aside for it.
    pub(crate) fn state_need(&self, seq: &Sequence, n_tokens: usize) -> usize {
        match seq.state.live {
            Some(_) => self.owed_to(seq, n_tokens),
            None => self.cache.footprint.n_pieces() + self.owed_to(seq, n_tokens),
        }
    }

    /// Blocks of the checkpoint that a sequence which is at `n_tokens` has still to come by.
    pub(crate) fn owed_to(&self, seq: &Sequence, n_tokens: usize) -> usize {
        let is_ahead = seq.state.reserved.is_some_and(|at| at > n_tokens);
        if is_ahead { self.cache.footprint.n_pieces() } else { 0 }
    }

    /// Give a sequence that starts at `hit` a state of its own; there is room for it.
    pub(crate) fn begin_state(&mut self, seq: &mut Sequence, hit: &Hit) {
        if self.cache.footprint.n_pieces() == 0 {
            return;
        }
        let source = hit.state.and_then(|hash| self.cache.pool.checkpoint(&hash));
        source.iter().for_each(|block| self.cache.pool.retain(*block));
        seq.state.source = source;
        let live = self.cache.alloc_state(CheckpointClass::Periodic);
        seq.state.live = Some(live.expect("the admission counted the state"));
        let passed: Vec<_> = seq.state.places.iter().copied().filter(|(at, _)| *at <= hit.n_tokens).collect();
        for (at, class) in passed {
            let hash = seq.boundary(at, self).hash;
            if let Some(block) = self.cache.pool.checkpoint(&hash) {
                self.come_by(seq, block, (at, class, hash));
            }
        }
    }

    /// A place at which a checkpoint stands.
    fn come_by(
        &mut self,
        seq: &mut Sequence,
        block: BlockId,
        (n_tokens, class, hash): (usize, CheckpointClass, ChainHash),
    ) {
        self.cache.pool.raise_class(block, class);
        if class == CheckpointClass::ReturnPoint && seq.state.return_point.is_none() {
            self.cache.pool.retain(block);
            seq.state.return_point = Some(block);
        }
        self.checkpoints.push(Checkpoint { seq: seq.id, hash, class, n_tokens, is_there: true });
    }

    /// Copy the checkpoint that a sequence starts from, before its first row.
    pub(crate) fn copy_source(&mut self, seq: &mut Sequence, step: &mut Step) {
        let (Some(source), Some(live)) = (seq.state.source.take(), seq.state.live) else { return };
        let pool = &mut self.cache.pool;
        let copies = pool.pieces(source).into_iter().zip(pool.pieces(live));
        step.copies.extend(copies.map(|(from, to)| BlockCopy { from, to }));
        // As with tails: copies run in order and before all rows.
        pool.release(source, Retention::Prefix);
    }

    /// What a row of `id` from `start` to `end` does with its state; room for the checkpoints at the places that it
    /// comes by is taken where there is some.
    pub(crate) fn row_state(&mut self, id: SeqId, start: usize, end: usize) -> RowState {
        let Some(live) = self.seqs.get(&id).and_then(|seq| seq.state.live) else {
            return RowState::default();
        };
        let places = self.seqs[&id].state.places.iter();
        let passed: Vec<_> = places.copied().filter(|(at, _)| *at > start && *at <= end).collect();
        let mut saves = Vec::new();
        for (at, class) in passed {
            let Some(mut seq) = self.seqs.remove(&id) else { break };
            let hash = seq.boundary(at, self).hash;
            let is_reserved = seq.state.reserved == Some(at);
            if let Some(block) = self.cache.pool.checkpoint(&hash) {
                self.come_by(&mut seq, block, (at, class, hash));
                self.seqs.insert(id, seq);
                continue;
            }
            self.seqs.insert(id, seq);
            match self.take_room(class, is_reserved) {
                Some(block) => saves.push(PlannedSave { n_tokens: at, class, block }),
                None => {
                    self.checkpoints.push(Checkpoint { seq: id, hash, class, n_tokens: at, is_there: false });
                }
            }
        }
        let pool = &self.cache.pool;
        let planned = saves
            .iter()
            .map(|save| StateSave { n_tokens: save.n_tokens - start, blocks: pool.pieces(save.block) });
        let state = RowState { blocks: pool.pieces(live), saves: planned.collect() };
        if let Some(seq) = self.seqs.get_mut(&id) {
            seq.state.is_in_step = true;
            seq.state.saves = saves;
        }
        state
    }

    /// Room for a checkpoint; but for the one that room was set aside for, only what nobody will need.
    fn take_room(&mut self, class: CheckpointClass, is_reserved: bool) -> Option<BlockId> {
        let n_pieces = self.cache.footprint.n_pieces();
        let has_room = is_reserved
            || self.cache.pool.has_room_for_checkpoint(n_pieces, class)
                && n_pieces + self.n_spoken_for() <= self.cache.pool.n_available();
        if has_room { self.cache.alloc_state(class) } else { None }
    }

    /// Give the copies that a step has made their addresses.
    pub(crate) fn register_saves(&mut self, seq: &mut Sequence) {
        seq.state.is_in_step = false;
        let n_registered = seq.n_registered * self.cache.footprint.block_tokens();
        for PlannedSave { n_tokens, class, block } in std::mem::take(&mut seq.state.saves) {
            if n_tokens > n_registered {
                self.cache.pool.release(block, Retention::OutOfReach);
                continue;
            }
            let hash = seq.boundary(n_tokens, self).hash;
            if let Some(checkpoint) = self.register_state(seq, block, n_tokens) {
                self.come_by(seq, checkpoint, (n_tokens, class, hash));
                self.cache.pool.release(checkpoint, Retention::Prefix);
            }
        }
    }

    /// Give a state its address; it is held once more by the caller, as is the one that had the address before it.
    /// `None`, and nothing held, when the address belongs to other tokens.
    fn register_state(&mut self, seq: &Sequence, block: BlockId, n_tokens: usize) -> Option<BlockId> {
        let Boundary { hash, parent, tokens } = seq.boundary(n_tokens, self);
        match self.cache.register(block, checkpoint_key(hash), &parent, tokens, true) {
            Registered::New => Some(block),
            Registered::Taken(other) => {
                self.cache.pool.retain(other);
                self.cache.pool.release(block, Retention::OutOfReach);
                Some(other)
            }
            Registered::Collision => {
                self.cache.pool.release(block, Retention::OutOfReach);
                None
            }
        }
    }

    /// Make a checkpoint of the state of a sequence that ends, or gives way; its blocks have their addresses.
    pub(crate) fn keep_live_state(&mut self, seq: &mut Sequence, class: CheckpointClass) {
        let block_tokens = self.cache.footprint.block_tokens();
        let n_tokens = seq.n_computed;
        // One that is not copied yet, or that a step goes on with, is not that of the computed tokens.
        let is_sound = !seq.state.is_in_step && seq.state.source.is_none();
        if n_tokens == 0 || !is_sound || seq.n_registered != n_tokens / block_tokens {
            return;
        }
        let hash = seq.boundary(n_tokens, self).hash;
        let has_kv = self.cache.footprint.keys(hash).all(|key| self.cache.pool.lookup(&key).is_some());
        let Some(live) = seq.state.live.take_if(|_| has_kv) else { return };
        if let Some(checkpoint) = self.register_state(seq, live, n_tokens) {
            self.cache.pool.raise_class(checkpoint, class);
            self.checkpoints.push(Checkpoint { seq: seq.id, hash, class, n_tokens, is_there: true });
            self.cache.pool.release(checkpoint, Retention::Prefix);
        }
    }

    /// Let go of every state that a sequence holds.
    pub(crate) fn release_states(&mut self, seq: &mut Sequence) {
        for block in seq.state.blocks().collect::<Vec<_>>() {
            self.cache.pool.release(block, Retention::OutOfReach);
        }
        let state = std::mem::take(&mut seq.state);
        seq.state =
            SequenceState { places: state.places, reserved: state.reserved, ..SequenceState::default() };
    }

    /// Register what a restore has brought of a checkpoint, if it is all of it; else give it back.
    pub(crate) fn keep_restored_state(
        &mut self,
        seq: &mut Sequence,
        restored: Option<(ChainHash, ChainHash, Vec<TokenId>)>,
    ) {
        let Some(block) = seq.state.restoring.take() else { return };
        let registered = restored.map(|(hash, parent, tokens)| {
            self.cache.register(block, checkpoint_key(hash), &parent, &tokens, true)
        });
        if registered == Some(Registered::New) {
            seq.holds.push(block);
        } else {
            self.cache.pool.release(block, Retention::OutOfReach);
        }
    }

    /// Whether a running sequence will keep a state behind `hit` that `seq` can start from.
    pub(crate) fn is_state_coming(&self, seq: &Sequence, hit: &Hit) -> bool {
        let block_tokens = self.cache.footprint.block_tokens();
        let limit = seq.n_reusable();
        self.running.iter().map(|id| &self.seqs[id]).any(|running| {
            let comes = |at: usize| {
                let idx = at / block_tokens - 1;
                at > running.n_computed
                    && at > hit.n_tokens
                    && at <= limit
                    && running.hashes.get(idx).is_some_and(|hash| seq.hashes.get(idx) == Some(hash))
            };
            !running.is_done() && running.state.reserved.is_some_and(comes)
                || running.state.places.iter().any(|(at, class)| {
                    *class == CheckpointClass::SystemEnd && !running.is_done() && comes(*at)
                })
        })
    }

    /// The address of what ends a hit that a store is to supply, what it follows, and its tokens.
    pub(crate) fn state_of_hit(
        &self,
        seq: &Sequence,
        hit: &Hit,
    ) -> Option<(ChainHash, ChainHash, Vec<TokenId>)> {
        hit.state?;
        let Boundary { hash, parent, tokens } = seq.boundary(hit.n_tokens, self);
        Some((hash, parent, tokens.to_vec()))
    }

    /// Report the checkpoints of which the store has lost pieces, as far as they are here. Returns how many pieces.
    pub(crate) fn offer_lost_states<'a>(&mut self, keys: impl Iterator<Item = &'a BlockKey>) -> usize {
        let mut hashes: Vec<ChainHash> =
            keys.filter(|key| key.group.is_state()).map(|key| key.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let n_before = self.completed.len();
        for hash in hashes {
            self.save_state(&hash);
        }
        self.completed.len() - n_before
    }
}
