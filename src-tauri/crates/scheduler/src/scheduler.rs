//! Who runs next: admission, chunked prefill, preemption and prefix reuse over one block pool.
//!
//! ```text
//! submit ─▶ Waiting ─plan─▶ Prefilling ─commit─▶ Decoding ─commit─▶ AtLimit
//!             ▲  │ plan         │                   │                  │
//!             │  ▼              │ plan (preempt)    │                  │
//!             │ Restoring       │                   │                  │
//!             │  │ finish_restore                   │                  │
//!             ◀──┴──────────────┴───────────────────┘     finish: from every state         
//! ```
//!
//! The caller's loop, with every other call between `commit` and the next `plan`:
//!
//! ```text
//! let plan = scheduler.plan(&|keys| store.holds(keys));
//! runner.run(&plan.step, &mut logits)?;
//! let sampled = sample(&plan.step, &logits);
//! let committed = scheduler.commit(&plan.step, &sampled);
//! ```

use std::collections::{HashMap, HashSet};

use address::BlockKey;

use crate::block_pool::PoolCounts;
use crate::footprint::Footprint;
use crate::ids::{BlockId, SeqId, TokenId};
use crate::kv_layout::KvLayout;
use crate::plan::{
    Checkpoint, CheckpointClass, Committed, CompletedBlock, NewSequence, Progress, SchedulerConfig,
    SchedulerCounts, SeqState, Shortage, StoreMode, SubmitError, Submitted,
};
use crate::prefix_cache::PrefixCache;
use crate::sequence::{Phase, Sequence, TailSaving};
use crate::sequence_state::SequenceState;
use crate::step::Step;

/// Decides what each step computes and where its KV lies.
///
/// Between a [`Scheduler::plan`] and its [`Scheduler::commit`] only `submit`, `finish` and `discard` are
/// legal besides reading. A plan whose step failed as a whole is not committed: the pool's content is void then,
/// and so is the scheduler.
pub struct Scheduler {
    pub(crate) config: SchedulerConfig,
    pub(crate) cache: PrefixCache,
    pub(crate) seqs: HashMap<SeqId, Sequence>,
    /// In order of arrival.
    pub(crate) waiting: Vec<SeqId>,
    /// In order of arrival.
    pub(crate) running: Vec<SeqId>,
    pub(crate) restoring: Vec<SeqId>,
    pub(crate) completed: Vec<CompletedBlock>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Positions that a sequence can have: the smaller of the model's and of what the pool holds for one alone.
    pub(crate) effective_context: usize,
    /// Distance of the states that a long prefill leaves behind, so far that it writes no more of them than KV.
    state_saved_every: usize,
    n_arrivals: u64,
}

impl Scheduler {
    /// A scheduler over an empty pool of `n_blocks` blocks.
    pub fn new(layout: &KvLayout, n_blocks: usize, config: SchedulerConfig) -> Scheduler {
        let footprint = Footprint::new(layout);
        let config = SchedulerConfig {
            max_rows: config.max_rows.max(1),
            max_chunk: config.max_chunk.max(1),
            step_token_budget: config.step_token_budget.max(1),
            ..config
        };
        let effective_context = footprint.longest_alone(n_blocks, config.max_context);
        let as_much_as_kv = layout.state_bytes().div_ceil(layout.bytes_per_token().max(1));
        let state_saved_every =
            as_much_as_kv.max(config.window_kept_every).next_multiple_of(footprint.block_tokens());
        Scheduler {
            cache: PrefixCache::new(footprint, n_blocks, config.salt, config.store),
            config,
            seqs: HashMap::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            restoring: Vec::new(),
            completed: Vec::new(),
            checkpoints: Vec::new(),
            effective_context,
            state_saved_every,
            n_arrivals: 0,
        }
    }

    /// Queue a request; it is looked at by the next [`Scheduler::plan`]. Legal at any time.
    ///
    /// # Errors
    /// The prompt does not fit the effective context, or the id is in use.
    pub fn submit(&mut self, new: NewSequence) -> Result<Submitted, SubmitError> {
        let n_tokens = new.prompt.tokens().len();
        let limit = self.effective_context;
        if n_tokens > limit || (n_tokens == limit && new.max_new_tokens > 0) {
            return Err(SubmitError::TooLong { n_tokens, limit });
        }
        if self.seqs.contains_key(&new.id) {
            return Err(SubmitError::DuplicateId(new.id));
        }
        let max_new_tokens = new.max_new_tokens.min(limit - n_tokens);
        let n_groups = self.cache.footprint.n_groups();
        let state_points = new.state_points;
        let mut seq = Sequence::new(new, self.next_arrival(), n_tokens + max_new_tokens, n_groups);
        let block_tokens = self.cache.footprint.block_tokens();
        if self.cache.footprint.n_pieces() > 0 {
            seq.state = SequenceState::new(state_points, n_tokens, block_tokens, self.state_saved_every);
        }
        seq.extend_hashes(&self.cache.hasher, block_tokens);
        self.waiting.push(seq.id);
        self.seqs.insert(seq.id, seq);
        Ok(Submitted { max_new_tokens })
    }

    /// Book a step that ran: its tokens are computed, `sampled` are appended.
    ///
    /// Each sequence whose row reached its last token (`Wanted::LastLogits` or the end of an `AllLogits` row) should have
    /// one sampled token; one without gets no further row until `finish`.
    /// Rows and tokens of sequences that were finished since the plan are ignored.
    pub fn commit(&mut self, step: &Step, sampled: &[(SeqId, TokenId)]) -> Committed {
        let sampled: HashMap<SeqId, TokenId> = sampled.iter().copied().collect();
        let mut committed = Committed::default();
        for row in &step.rows {
            let Some(mut seq) = self.seqs.remove(&row.seq) else { continue };
            if seq.phase == Phase::Running && seq.n_computed == row.start && !seq.is_done() {
                seq.n_computed = (row.end()).min(seq.tokens.len());
                seq.n_kept = seq.n_kept.max(seq.n_computed);
                if let Some(&token) = sampled.get(&seq.id)
                    && seq.n_remaining() == 0
                    && seq.tokens.len() < seq.n_limit
                {
                    seq.tokens.push(token);
                    seq.extend_hashes(&self.cache.hasher, self.cache.footprint.block_tokens());
                }
                self.register_whole_blocks(&mut seq);
                self.register_saves(&mut seq);
                self.slide_windows(&mut seq);
                if seq.is_done() && seq.tokens.len() >= seq.n_limit {
                    committed.at_limit.push(seq.id);
                }
            }
            self.seqs.insert(seq.id, seq);
        }
        committed
    }

    /// End a sequence, in whatever state; its KV stays as cache, a last partial block too.
    ///
    /// Returns false when there is no such sequence (it ended in a plan, or was finished before).
    pub fn finish(&mut self, id: SeqId) -> bool {
        let Some(mut seq) = self.seqs.remove(&id) else { return false };
        for list in [&mut self.waiting, &mut self.running, &mut self.restoring] {
            list.retain(|other| *other != id);
        }
        self.register_tail(&mut seq, TailSaving::Wanted);
        let is_answer = seq.n_computed >= seq.n_prompt;
        let class = if is_answer { CheckpointClass::AnswerEnd } else { CheckpointClass::Periodic };
        self.keep_live_state(&mut seq, class);
        self.release_all(&mut seq);
        true
    }

    /// End a sequence whose KV cannot be trusted, before or after the commit of its last step.
    ///
    /// Nothing that it computed itself stays as cache, nor what others left behind on top of that; only blocks that
    /// another running sequence holds as well stay with it. Returns the addresses that are gone: records of them
    /// from [`Scheduler::take_completed`] that were not exported yet must be dropped.
    pub fn discard(&mut self, id: SeqId) -> Vec<BlockKey> {
        let Some(mut seq) = self.seqs.remove(&id) else { return Vec::new() };
        for list in [&mut self.waiting, &mut self.running, &mut self.restoring] {
            list.retain(|other| *other != id);
        }
        let first_own = seq.n_trusted.min(seq.tokens.len()) / self.cache.footprint.block_tokens();
        let own: HashSet<BlockId> = seq.blocks().collect();
        let gone = match seq.hashes.get(first_own) {
            Some(hash) => self.cache.forget_from(*hash, &own),
            None => Vec::new(),
        };
        self.completed.retain(|completed| !gone.contains(&completed.key));
        self.release_all(&mut seq);
        gone
    }

    /// Change the token budget of a step, from the next plan on. Clamped so that a step can always hold something.
    pub fn set_token_budget(&mut self, n_tokens: usize) {
        self.config.step_token_budget = n_tokens.max(1);
    }

    /// What a sequence consists of and how far it is; `None` when it is gone.
    pub fn progress(&self, id: SeqId) -> Option<Progress<'_>> {
        self.seqs.get(&id).map(Sequence::progress)
    }

    /// Where a sequence is in its life; `None` when it is gone.
    pub fn state(&self, id: SeqId) -> Option<SeqState> {
        self.seqs.get(&id).map(Sequence::state)
    }

    /// What a waiting sequence lacks, for a refusal after its time in the queue is over.
    ///
    /// `None` when it does not wait, or waits only for a running sequence to compute what both need.
    /// Without a real shortage (`needed <= free`) it waits for a row, for its agent's earlier request, or for an
    /// earlier request that must not be passed any more.
    pub fn shortage(&self, id: SeqId) -> Option<Shortage> {
        let seq = self.seqs.get(&id).filter(|seq| seq.phase == Phase::Waiting)?;
        let hit = self.find_resident(seq);
        if self.is_coming(seq, &hit) {
            return None;
        }
        let needed = self.need(seq, &hit).total();
        let counts = self.pool();
        let free = counts.n_available().saturating_sub(self.n_spoken_for());
        Some(Shortage { needed, free, total: counts.n_total })
    }

    /// How many sequences are in which state.
    pub fn counts(&self) -> SchedulerCounts {
        let mut counts = SchedulerCounts {
            n_waiting: self.waiting.len(),
            n_restoring: self.restoring.len(),
            ..SchedulerCounts::default()
        };
        for id in &self.running {
            match self.seqs[id].state() {
                SeqState::Prefilling { .. } => counts.n_prefilling += 1,
                _ => counts.n_decoding += 1,
            }
        }
        counts
    }

    /// How many blocks are in which state.
    pub fn pool(&self) -> PoolCounts {
        self.cache.pool.counts()
    }

    /// Blocks completed since the last call, parents before children.
    ///
    /// With the store on, each of them must get a [`Scheduler::mark_saved`] at some time.
    pub fn take_completed(&mut self) -> Vec<CompletedBlock> {
        std::mem::take(&mut self.completed)
    }

    /// The block is in the store, or will never be: its memory may be taken when it is idle. That of a checkpoint may
    /// when that is true of all its pieces.
    pub fn mark_saved(&mut self, key: &BlockKey) {
        match self.cache.pool.lookup(key) {
            Some(block) if key.group.is_state() => self.cache.pool.mark_piece_saved(block, key.group.idx()),
            Some(block) => self.cache.pool.mark_saved(block),
            None => {}
        }
    }

    /// Whether what is completed now is written through.
    pub fn store(&self) -> StoreMode {
        self.cache.pool.store()
    }

    /// Turn write-through on or off.
    ///
    /// Off makes every unsaved block evictable and voids the records handed out; on reports every block in the pool
    /// that is not saved by [`Scheduler::take_completed`], so that the store gets parents before children again.
    pub fn set_store(&mut self, mode: StoreMode) {
        if mode == self.cache.pool.store() {
            return;
        }
        self.cache.pool.set_store(mode);
        self.completed.clear();
        if mode == StoreMode::On {
            let resident = self.cache.walk();
            // What no prefix leads to any more would never be asked for.
            let reached: HashSet<BlockKey> = resident.iter().map(|(key, ..)| *key).collect();
            let is_lost = |key: &&BlockKey| !key.group.is_state() && !reached.contains(*key);
            let lost: Vec<BlockKey> = self.cache.pool.keys().filter(is_lost).copied().collect();
            lost.iter().for_each(|key| self.mark_saved(key));
            let unsaved = resident.into_iter().filter(|(_, block, ..)| !self.cache.pool.is_saved(*block));
            self.completed = unsaved
                .filter_map(|(key, block, parent, block_idx)| {
                    let tokens = self.cache.tokens(&key.hash)?.to_vec();
                    Some(CompletedBlock { block, key, parent, block_idx, tokens, seq: None })
                })
                .collect();
            for hash in self.cache.pool.half_saved() {
                self.report_state(&hash);
            }
        }
    }

    /// A restore of a [`crate::Plan`] is over; `imported` are the blocks whose bytes are in the pool now.
    ///
    /// The rest of its blocks is given back; the sequence is admitted by a later plan with what is resident then.
    /// Nothing happens when the sequence is gone: its blocks may have another owner, so check
    /// [`Scheduler::state`] is `Restoring` *before* importing bytes that arrive late.
    pub fn finish_restore(&mut self, id: SeqId, imported: &[BlockKey]) {
        let Some(mut seq) = self.seqs.remove(&id) else { return };
        if seq.phase == Phase::Restoring {
            self.restoring.retain(|other| *other != id);
            let has_lost_state = self.keep_imported(&mut seq, imported);
            seq.phase = Phase::Waiting;
            // Where a piece of a state was lost, an earlier checkpoint may still be there: that is tried once.
            seq.may_restore = has_lost_state && !std::mem::replace(&mut seq.has_lost_state, true);
            self.enqueue(id, seq.order);
        }
        self.seqs.insert(id, seq);
    }

    /// Keep blocks in the pool when they are idle; returns those of them that are pinned now.
    ///
    /// Blocks that are not resident are passed over, and at most half the pool is ever pinned: the first ones.
    pub fn pin(&mut self, keys: &[BlockKey]) -> Vec<BlockKey> {
        let pool = &mut self.cache.pool;
        let mut pinned = keys.to_vec();
        pinned.retain(|key| pool.lookup(key).is_some_and(|block| pool.pin(block)));
        pinned
    }

    /// How many of these blocks are in the pool.
    pub fn n_resident(&self, keys: &[BlockKey]) -> usize {
        keys.iter().filter(|key| self.cache.pool.lookup(key).is_some()).count()
    }

    /// Undo [`Scheduler::pin`].
    pub fn unpin(&mut self, keys: &[BlockKey]) {
        for key in keys {
            if let Some(block) = self.cache.pool.lookup(key) {
                self.cache.pool.unpin(block);
            }
        }
    }

    /// Drop idle blocks from the pool, last first; returns how many went.
    ///
    /// Held, unsaved and pinned ones stay, and those that others in the pool continue.
    pub fn evict(&mut self, keys: &[BlockKey]) -> usize {
        let mut n_evicted = 0;
        for key in keys.iter().rev() {
            if let Some(block) = self.cache.pool.lookup(key)
                && !self.cache.is_continued(key)
                && self.cache.evict(block)
            {
                n_evicted += 1;
            }
        }
        n_evicted
    }

    /// Check every invariant of pool, index and tables; for tests.
    ///
    /// # Errors
    /// Names the first invariant that does not hold.
    #[cfg(test)]
    pub(crate) fn check_integrity(&self) -> Result<(), String> {
        let mut holders = vec![0; self.pool().n_total];
        let mut n_listed = 0;
        for (list, phase) in [
            (&self.waiting, Phase::Waiting),
            (&self.running, Phase::Running),
            (&self.restoring, Phase::Restoring),
        ] {
            n_listed += list.len();
            for id in list {
                let seq = self.seqs.get(id).ok_or(format!("{id:?} is listed and gone"))?;
                if seq.phase != phase {
                    return Err(format!("{id:?} is {:?} in the list of {phase:?}", seq.phase));
                }
                self.check_sequence(seq)?;
                seq.blocks().for_each(|block| holders[block.idx()] += 1);
            }
        }
        if n_listed != self.seqs.len() {
            return Err(format!("{n_listed} listed, {} sequences", self.seqs.len()));
        }
        self.cache.check_integrity(&holders)
    }

    /// Put a sequence into the queue at its place in the order of arrival.
    pub(crate) fn enqueue(&mut self, id: SeqId, order: u64) {
        let place = self.waiting.partition_point(|other| self.seqs[other].order < order);
        self.waiting.insert(place, id);
    }

    fn next_arrival(&mut self) -> u64 {
        self.n_arrivals += 1;
        self.n_arrivals
    }

    #[cfg(test)]
    fn check_sequence(&self, seq: &Sequence) -> Result<(), String> {
        let footprint = &self.cache.footprint;
        let block_tokens = footprint.block_tokens();
        if seq.hashes.len() != seq.tokens.len() / block_tokens || seq.n_computed > seq.tokens.len() {
            return Err(format!(
                "{:?}: {} hashes, {} computed of {}",
                seq.id,
                seq.hashes.len(),
                seq.n_computed,
                seq.tokens.len()
            ));
        }
        for (group_idx, table) in seq.tables.iter().enumerate() {
            let has_state = seq.state.live.is_some() == (seq.phase == Phase::Running);
            if footprint.n_pieces() > 0 && !has_state {
                return Err(format!("{:?} is {:?} and has {:?}", seq.id, seq.phase, seq.state));
            }
            if seq.phase != Phase::Running && !table.blocks.is_empty() {
                return Err(format!("{:?} does not run and has blocks", seq.id));
            }
            let first = footprint.first_needed(group_idx, seq.n_computed);
            let covered = (table.first_block + table.blocks.len()) * block_tokens;
            if seq.phase == Phase::Running && (table.first_block > first || covered < seq.n_computed) {
                return Err(format!("{:?} lacks blocks of group {group_idx}", seq.id));
            }
            for block_idx in table.first_block..(seq.n_registered).min(table.first_block + table.blocks.len())
            {
                let key = footprint.key(seq.hashes[block_idx], group_idx);
                if self.cache.pool.lookup(&key) != crate::sequence::block_at(table, block_idx) {
                    return Err(format!(
                        "{:?}: block {block_idx} of group {group_idx} is not where its address leads",
                        seq.id
                    ));
                }
            }
        }
        Ok(())
    }
}
