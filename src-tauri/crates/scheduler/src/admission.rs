//! Who leaves the queue: in order of arrival, when rows and blocks are there, one request of an agent at a time.

use crate::block_pool::Retention;
use crate::ids::SeqId;
use crate::plan::{Admitted, CheckpointClass, Plan, Restore, RestoreBlock};
use crate::prefix_cache::{Hit, Stored};
use crate::scheduler::Scheduler;
use crate::sequence::{Phase, Restoring, Sequence};

/// Requests that are looked at for a place in one plan although earlier ones lack room.
const MAX_LOOKS: usize = 8;

/// Blocks that an admission takes out of what is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// Blocks to allocate until the prompt is computed.
    pub(crate) n_new: usize,
    /// Idle blocks of the hit, which are evictable no longer.
    pub(crate) n_idle_hits: usize,
}

/// What became of an attempt to start a waiting sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// It runs, or its blocks are being restored.
    Started,
    /// There are not enough blocks for it.
    Lacks,
    /// A running sequence is about to compute what it needs next; it would only compute the same again.
    IsComing,
}

impl Need {
    pub(crate) fn total(self) -> usize {
        self.n_new + self.n_idle_hits
    }
}

impl Scheduler {
    /// Admit what fits. Smaller requests pass one that lacks room, but only so often.
    pub(crate) fn admit(&mut self, stored: Stored<'_>, plan: &mut Plan) {
        let running = self.running.iter().chain(&self.restoring);
        let mut busy_agents: Vec<u64> = running.filter_map(|id| self.seqs[id].agent).collect();
        let mut lacking: Vec<SeqId> = Vec::new();
        for id in self.waiting.clone() {
            if self.running.len() + self.restoring.len() >= self.config.max_rows || lacking.len() >= MAX_LOOKS
            {
                break;
            }
            let Some(mut seq) = self.seqs.remove(&id) else { continue };
            let agent = seq.agent;
            let is_agent_busy = agent.is_some_and(|agent| busy_agents.contains(&agent));
            let start = (!is_agent_busy).then(|| self.try_start(&mut seq, stored, plan));
            let is_admitted = start == Some(Start::Started);
            if start == Some(Start::Lacks) {
                lacking.push(id);
            }
            let may_pass = is_admitted || (!seq.was_preempted && seq.n_passes < self.config.max_passes);
            self.seqs.insert(id, seq);
            busy_agents.extend(agent);
            if is_admitted {
                self.waiting.retain(|other| *other != id);
                for passed in &lacking {
                    if let Some(seq) = self.seqs.get_mut(passed) {
                        seq.n_passes += 1;
                    }
                }
            }
            let is_lacking = lacking.last() == Some(&id);
            let is_overtaken =
                lacking.iter().any(|passed| self.seqs[passed].n_passes >= self.config.max_passes);
            if (is_lacking && !may_pass) || is_overtaken {
                break;
            }
        }
    }

    /// Start a waiting sequence, or its restore.
    fn try_start(&mut self, seq: &mut Sequence, stored: Stored<'_>, plan: &mut Plan) -> Start {
        let stored = if seq.may_restore { stored } else { None };
        let known = (seq.former.as_ref(), &seq.answer_ends[..]);
        let mut hit = self.cache.find_hit(&seq.tokens, &seq.hashes, seq.n_reusable(), stored, known);
        if !self.is_resident_hit(seq, &hit) {
            let resident = self.find_resident(seq);
            // A restore that saves less than a block of computing is not worth its wait.
            if hit.n_tokens >= resident.n_tokens + self.cache.footprint.block_tokens() {
                if self.start_restore(seq, &hit, resident.n_tokens, plan) {
                    return Start::Started;
                }
                // Where even an empty pool is too small to restore into, computing is what is left; what only waits for the
                // store makes room soon.
                if !self.is_alone() || self.cache.pool.n_idle_unsaved() > 0 {
                    return Start::Lacks;
                }
            }
            hit = resident;
        }
        if self.is_coming(seq, &hit) {
            return Start::IsComing;
        }
        if self.start(seq, hit, plan) { Start::Started } else { Start::Lacks }
    }

    /// Whether a running sequence has the block after `hit` still before it. It came earlier and gets on at least
    /// as fast, so waiting for it costs nothing and saves all that the two prompts share.
    pub(crate) fn is_coming(&self, seq: &Sequence, hit: &Hit) -> bool {
        if self.cache.footprint.n_pieces() > 0 {
            return self.is_state_coming(seq, hit);
        }
        let block_tokens = self.cache.footprint.block_tokens();
        let next = hit.n_tokens / block_tokens;
        let end = (next + 1) * block_tokens;
        let Some(hash) = seq.hashes.get(next).filter(|_| end <= seq.n_reusable()) else { return false };
        self.running.iter().map(|id| &self.seqs[id]).any(|running| {
            !running.is_done() && running.n_computed < end && running.hashes.get(next) == Some(hash)
        })
    }

    fn start(&mut self, seq: &mut Sequence, hit: Hit, plan: &mut Plan) -> bool {
        let mut hit = hit;
        if !self.fits(seq, &hit) {
            // Blocks kept for admissions must not lock everybody out, whoever they are kept for.
            if self.is_alone() && (self.drop_a_hold() || !seq.holds.is_empty()) {
                self.release_holds(seq);
                return self.start(seq, hit, plan);
            }
            // Alone, a sequence must fit; the copy of its tail, or of its state, may be what is too much.
            if !self.is_alone() || hit.tail.is_none() && hit.state.is_none() {
                return false;
            }
            let n_whole = hit.n_tokens - hit.n_tokens % self.cache.footprint.block_tokens();
            hit = match hit.state {
                Some(_) => Hit::default(),
                None => self.cache.find_hit(&seq.tokens, &seq.hashes, n_whole, None, (None, &[])),
            };
            if hit.tail.is_some() || !self.fits(seq, &hit) {
                return false;
            }
        }
        let blocks = self.cache.hit_blocks(&hit, &seq.hashes);
        for (group_idx, table) in seq.tables.iter_mut().enumerate() {
            table.first_block = self.cache.footprint.first_needed(group_idx, hit.n_tokens);
        }
        for hit_block in blocks {
            let Some(block) = self.cache.pool.lookup(&hit_block.key) else { continue };
            self.cache.pool.retain(block);
            seq.tables[hit_block.key.group.idx()].blocks.push(block);
        }
        self.begin_state(seq, &hit);
        self.release_holds(seq);
        seq.n_computed = hit.n_tokens;
        seq.n_kept = seq.n_kept.max(hit.n_tokens);
        seq.n_trusted = seq.n_trusted.min(hit.n_tokens);
        seq.n_registered = hit.n_tokens / self.cache.footprint.block_tokens();
        seq.phase = Phase::Running;
        seq.n_promised = 0;
        let n_resident = seq.n_resident.take();
        plan.admitted.push(Admitted {
            seq: seq.id,
            n_reused: hit.n_tokens,
            n_restored: n_resident.map_or(0, |n| hit.n_tokens.saturating_sub(n)),
            n_without_state: hit.n_with_kv - hit.n_tokens,
            n_to_compute: seq.n_remaining(),
        });
        let place = self.running.partition_point(|other| self.seqs[other].order < seq.order);
        self.running.insert(place, seq.id);
        true
    }

    /// Reserve blocks for what the store is to supply and hold on to what is resident already.
    fn start_restore(&mut self, seq: &mut Sequence, hit: &Hit, n_resident: usize, plan: &mut Plan) -> bool {
        let need = self.need(seq, hit);
        let blocks = self.cache.hit_blocks(hit, &seq.hashes);
        let n_missing = blocks.iter().filter(|b| self.cache.pool.lookup(&b.key).is_none()).count();
        // The slots used of a restored tail are copied into a block of the sequence's own.
        let n_tails = if hit.tail.is_some() { self.cache.footprint.n_groups() } else { 0 };
        let state = self.state_of_hit(seq, hit);
        let resident = state.as_ref().and_then(|(hash, ..)| self.cache.pool.checkpoint(hash));
        let n_state = match (&state, resident) {
            (Some(_), None) => self.cache.footprint.n_pieces(),
            _ => 0,
        };
        if need.total() + n_tails + n_state + self.n_spoken_for() > self.cache.pool.n_available() {
            return false;
        }
        let root = self.cache.hasher.root();
        let block_tokens = self.cache.footprint.block_tokens();
        let n_whole = hit.n_tokens / block_tokens;
        let mut missing = Vec::new();
        for hit_block in blocks {
            match self.cache.pool.lookup(&hit_block.key) {
                Some(block) => {
                    self.cache.pool.retain(block);
                    seq.holds.push(block);
                }
                None => missing.push(hit_block),
            }
        }
        if let Some(block) = resident {
            self.cache.pool.retain(block);
            seq.holds.push(block);
        }
        for hit_block in missing {
            let Some(block) = self.cache.alloc() else { break };
            let idx = hit_block.block_idx;
            let tokens = match &hit.tail {
                Some(tail) if idx == n_whole => tail.tokens.clone(),
                _ => seq.tokens[idx * block_tokens..(idx + 1) * block_tokens].to_vec(),
            };
            let parent = if idx == 0 { root } else { seq.hashes[idx - 1] };
            seq.restoring
                .push(Restoring { wanted: RestoreBlock { block, key: hit_block.key, tokens }, parent });
        }
        if n_state > 0
            && let Some((hash, parent, tokens)) = state
            && let Some(first) = self.cache.alloc_state(CheckpointClass::Periodic)
        {
            seq.state.restoring = Some(first);
            let pieces = self.cache.pool.pieces(first).into_iter().zip(self.cache.footprint.state_keys(hash));
            seq.restoring.extend(pieces.map(|(block, key)| Restoring {
                wanted: RestoreBlock { block, key, tokens: tokens.clone() },
                parent,
            }));
        }
        seq.n_promised = (need.n_new + n_tails).saturating_sub(n_missing);
        seq.n_resident = Some(n_resident);
        seq.phase = Phase::Restoring;
        self.restoring.push(seq.id);
        let blocks = seq.restoring.iter().map(|restoring| restoring.wanted.clone()).collect();
        plan.restores.push(Restore { seq: seq.id, blocks });
        true
    }

    /// The longest hit without the store.
    pub(crate) fn find_resident(&self, seq: &Sequence) -> Hit {
        self.cache.find_hit(&seq.tokens, &seq.hashes, seq.n_reusable(), None, (None, &[]))
    }

    fn is_resident_hit(&self, seq: &Sequence, hit: &Hit) -> bool {
        let has_state = hit.state.is_none_or(|hash| self.cache.pool.checkpoint(&hash).is_some());
        let blocks = self.cache.hit_blocks(hit, &seq.hashes);
        has_state && blocks.iter().all(|block| self.cache.pool.lookup(&block.key).is_some())
    }

    fn fits(&self, seq: &Sequence, hit: &Hit) -> bool {
        self.need(seq, hit).total() + self.n_spoken_for() <= self.cache.pool.n_available()
    }

    /// What a waiting sequence takes when it starts from `hit`.
    pub(crate) fn need(&self, seq: &Sequence, hit: &Hit) -> Need {
        let footprint = &self.cache.footprint;
        // A sequence alone in the pool makes do with smaller chunks.
        let chunk = if self.is_alone() { footprint.block_tokens() } else { self.config.max_chunk };
        let n_whole = hit.n_tokens / footprint.block_tokens();
        let peaks: usize = (0..footprint.n_groups())
            .map(|group_idx| footprint.peak(group_idx, hit.n_tokens, seq.tokens.len(), chunk))
            .sum();
        let (mut n_shared, mut n_idle_hits) = (0, 0);
        for hit_block in self.cache.hit_blocks(hit, &seq.hashes) {
            if let Some(block) = self.cache.pool.lookup(&hit_block.key) {
                n_shared += usize::from(hit_block.block_idx < n_whole);
                n_idle_hits += usize::from(self.cache.pool.is_evictable(block));
            }
        }
        let source = hit.state.and_then(|hash| self.cache.pool.checkpoint(&hash));
        let source = source.filter(|block| self.cache.pool.is_evictable(*block));
        n_idle_hits += source.map_or(0, |block| self.cache.pool.weight(block));
        let n_state = self.state_need(seq, hit.n_tokens);
        Need { n_new: peaks.saturating_sub(n_shared) + n_state, n_idle_hits }
    }

    /// Blocks that admitted sequences will still take: the rest of their prompts, and one more block for each.
    pub(crate) fn n_spoken_for(&self) -> usize {
        let n_groups = self.cache.footprint.n_groups();
        let prompts: usize = self.running.iter().map(|id| self.n_promised(&self.seqs[id])).sum();
        let restores: usize = self.restoring.iter().map(|id| self.seqs[id].n_promised).sum();
        prompts + restores + n_groups * self.running.len()
    }

    fn n_promised(&self, seq: &Sequence) -> usize {
        if seq.n_remaining() <= 1 {
            return 0;
        }
        let footprint = &self.cache.footprint;
        let more = |group_idx: usize| {
            let peak = footprint.peak(group_idx, seq.n_computed, seq.tokens.len(), self.config.max_chunk);
            peak.saturating_sub(seq.tables[group_idx].blocks.len())
        };
        (0..footprint.n_groups()).map(more).sum::<usize>() + self.owed_to(seq, seq.n_computed)
    }

    fn is_alone(&self) -> bool {
        self.running.is_empty() && self.restoring.is_empty()
    }

    /// Give up the blocks that the youngest waiting sequence has kept for its admission; false when none has any.
    pub(crate) fn drop_a_hold(&mut self) -> bool {
        let has_holds = |id: &&SeqId| self.seqs.get(id).is_some_and(|seq| !seq.holds.is_empty());
        let Some(id) = self.waiting.iter().rev().find(has_holds).copied() else { return false };
        let Some(seq) = self.seqs.get_mut(&id) else { return false };
        for block in std::mem::take(&mut seq.holds).into_iter().rev() {
            self.cache.pool.release(block, Retention::Prefix);
        }
        true
    }
}
