//! What the next step holds: decodes first, then prefill chunks; and who gives way when blocks run out.

use address::BlockKey;

use crate::block_pool::Retention;
use crate::ids::{BlockId, SeqId};
use crate::plan::{CheckpointClass, EndReason, Ended, Plan, Shortage};
use crate::scheduler::Scheduler;
use crate::sequence::{Phase, Sequence, TailSaving, block_at};
use crate::step::{BlockCopy, BlockTable, Row, RowInput, Step};

/// What a sequence that lacked blocks can do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Go on: the blocks are available.
    Made,
    /// Wait for the store, a restore, or the caller's `finish`.
    Stalled,
    /// Nothing: it was preempted or ended itself.
    Gone,
}

impl Scheduler {
    /// Decide the next step: admit, grow, preempt.
    ///
    /// `stored` says of each of some blocks whether the store could supply it.
    pub fn plan(&mut self, stored: &dyn Fn(&[BlockKey]) -> Vec<bool>) -> Plan {
        let mut plan = Plan::default();
        loop {
            let n_changes = plan.ended.len() + plan.preempted.len();
            plan.stalled.clear();
            self.admit(Some(stored), &mut plan);
            self.fill(&mut plan);
            // Whoever gave way in vain may have made room for another one in the queue.
            let has_changed = plan.ended.len() + plan.preempted.len() > n_changes;
            if !plan.step.rows.is_empty() || !has_changed || plan.preempted.len() > 2 * self.config.max_rows {
                return plan;
            }
        }
    }

    fn fill(&mut self, plan: &mut Plan) {
        let is_due = |seq: &Sequence| !seq.is_done();
        let (decodes, prefills): (Vec<SeqId>, Vec<SeqId>) = self
            .running
            .iter()
            .copied()
            .filter(|id| is_due(&self.seqs[id]))
            .partition(|id| self.seqs[id].n_remaining() == 1);
        for id in decodes {
            self.add_row(id, 1, plan);
        }
        let smallest = self.cache.footprint.block_tokens().min(self.config.max_chunk);
        let budget = self.config.step_token_budget.saturating_sub(plan.step.rows.len()).max(smallest);
        for (id, n_tokens) in self.share_out(&prefills, budget) {
            self.add_row(id, n_tokens, plan);
        }
    }

    /// Divide a step's prefill tokens.
    ///
    /// The oldest gets at least half of them, so that it always comes to an end; the rest goes to who is nearest to
    /// its first token; what they leave goes to the oldest again.
    fn share_out(&self, prefills: &[SeqId], budget: usize) -> Vec<(SeqId, usize)> {
        let wants = |id: &SeqId| self.seqs[id].n_remaining().min(self.config.max_chunk);
        let Some((oldest, others)) = prefills.split_first() else { return Vec::new() };
        let half = if others.is_empty() { budget } else { budget.div_ceil(2) };
        let mut first = wants(oldest).min(half);
        let mut left = budget - first;
        let mut others: Vec<SeqId> = others.to_vec();
        others.sort_by_key(|id| (self.seqs[id].n_remaining(), self.seqs[id].order));
        let mut shares = Vec::new();
        for id in others {
            let share = wants(&id).min(left);
            left -= share;
            if share > 0 {
                shares.push((id, share));
            }
        }
        first += left.min(wants(oldest) - first);
        shares.insert(0, (*oldest, first));
        shares
    }

    /// Add a row of at most `n_tokens` tokens, as many as blocks can be had for, making room if not even one.
    fn add_row(&mut self, id: SeqId, n_tokens: usize, plan: &mut Plan) {
        if self.seqs.get(&id).is_none_or(|seq| seq.phase != Phase::Running) {
            return;
        }
        if self.n_lacking(id, 1) > self.cache.pool.n_available() {
            match self.make_room(id, plan) {
                Room::Made => {}
                Room::Stalled => return plan.stalled.push(id),
                Room::Gone => return,
            }
        }
        let n_tokens = self.n_affordable(id, n_tokens);
        self.grow(id, n_tokens, plan);
        let start = self.seqs[&id].n_computed;
        let end = start + n_tokens;
        let state = self.row_state(id, start, end);
        let seq = &self.seqs[&id];
        plan.step.rows.push(Row {
            seq: id,
            input: RowInput::Tokens(seq.tokens[start..end].to_vec()),
            start,
            tables: seq.tables.clone(),
            state,
            wanted: seq.wanted(start, end),
        });
    }

    /// The largest chunk up to `n_tokens` that the available blocks allow; ends at a block's end if it can.
    fn n_affordable(&self, id: SeqId, n_tokens: usize) -> usize {
        let block_tokens = self.cache.footprint.block_tokens();
        let seq = &self.seqs[&id];
        let mut n_tokens = n_tokens;
        let to_block_end = |n: usize| {
            let over = (seq.n_computed + n) % block_tokens;
            if over < n { n - over } else { n }
        };
        if n_tokens < seq.n_remaining() {
            n_tokens = to_block_end(n_tokens);
        }
        while n_tokens > 1 && self.n_lacking(id, n_tokens) > self.cache.pool.n_available() {
            n_tokens = to_block_end(n_tokens - 1);
        }
        n_tokens
    }

    /// Blocks to allocate before `n_tokens` more tokens can be written.
    fn n_lacking(&self, id: SeqId, n_tokens: usize) -> usize {
        let seq = &self.seqs[&id];
        let block_tokens = self.cache.footprint.block_tokens();
        let end = self.cache.footprint.blocks_of(seq.n_computed + n_tokens);
        let more = |table: &BlockTable| {
            let copies = if seq.n_computed.is_multiple_of(block_tokens) {
                None
            } else {
                block_at(table, seq.n_computed / block_tokens)
                    .filter(|&block| !self.cache.pool.is_private(block))
            };
            end.saturating_sub(table.first_block + table.blocks.len()) + usize::from(copies.is_some())
        };
        seq.tables.iter().map(more).sum()
    }

    /// Allocate the blocks of the next `n_tokens` tokens and replace a shared block that they would write into.
    fn grow(&mut self, id: SeqId, n_tokens: usize, plan: &mut Plan) {
        let Some(mut seq) = self.seqs.remove(&id) else { return };
        let block_tokens = self.cache.footprint.block_tokens();
        let write_idx = seq.n_computed / block_tokens;
        self.copy_source(&mut seq, &mut plan.step);
        let end = self.cache.footprint.blocks_of(seq.n_computed + n_tokens);
        for table in &mut seq.tables {
            if !seq.n_computed.is_multiple_of(block_tokens)
                && let Some(from) = block_at(table, write_idx)
                && !self.cache.pool.is_private(from)
            {
                let to = self.cache.alloc().expect("n_lacking counted the copy");
                plan.step.copies.push(BlockCopy { from, to });
                // Copies run in order and before all rows, so the source may be taken again at once.
                self.cache.pool.release(from, Retention::Prefix);
                table.blocks[write_idx - table.first_block] = to;
            }
            while table.first_block + table.blocks.len() < end {
                table.blocks.push(self.cache.alloc().expect("n_lacking counted the block"));
            }
        }
        self.seqs.insert(id, seq);
    }

    /// Find blocks for one more token of a running sequence.
    ///
    /// The youngest gives way, with a row of this very step if need be, and is recomputed later. The oldest is
    /// never preempted, so somebody always comes to an end.
    fn make_room(&mut self, id: SeqId, plan: &mut Plan) -> Room {
        loop {
            self.take_over_tail(id);
            let needed = self.n_lacking(id, 1);
            if needed <= self.cache.pool.n_available() || self.drop_a_hold() {
                if needed <= self.cache.pool.n_available() {
                    return Room::Made;
                }
                continue;
            }
            if !self.restoring.is_empty() || self.cache.pool.n_idle_unsaved() > 0 {
                return Room::Stalled;
            }
            let mut others = self.running.iter().copied().filter(|other| *other != id);
            let Some(youngest) = others.rfind(|other| !self.seqs[other].is_done()) else {
                if self.running.len() > 1 {
                    return Room::Stalled;
                }
                let free = self.cache.pool.n_available();
                let total = self.cache.pool.counts().n_total;
                let reason = EndReason::PoolExhausted(Shortage { needed, free, total });
                plan.ended.extend(self.seqs.get(&id).map(|seq| Ended {
                    seq: id,
                    reason,
                    tokens: seq.tokens.clone(),
                    n_prompt: seq.n_prompt,
                    n_computed: seq.n_computed,
                    n_kept: seq.n_kept,
                }));
                self.finish(id);
                return Room::Gone;
            };
            let victim = if self.seqs[&youngest].order > self.seqs[&id].order { youngest } else { id };
            self.preempt(victim, plan);
            if victim == id {
                return Room::Gone;
            }
        }
    }

    /// When memory is short, write into a cached tail that nobody else holds instead of copying it.
    fn take_over_tail(&mut self, id: SeqId) {
        let block_tokens = self.cache.footprint.block_tokens();
        let seq = &self.seqs[&id];
        if seq.n_computed.is_multiple_of(block_tokens) {
            return;
        }
        let tail_idx = seq.n_computed / block_tokens;
        let tails: Vec<_> = seq.tables.iter().filter_map(|table| block_at(table, tail_idx)).collect();
        for block in tails {
            self.cache.take_over(block);
        }
    }

    /// Take all blocks from a running sequence, which keeps its tokens and its place in the order of arrival.
    fn preempt(&mut self, id: SeqId, plan: &mut Plan) {
        let Some(mut seq) = self.seqs.remove(&id) else { return };
        self.running.retain(|other| *other != id);
        // A tail whose copy is taken back out of the step holds nothing worth an address.
        if !drop_row(&mut plan.step, id) {
            seq.state.is_in_step = false;
            self.register_tail(&mut seq, TailSaving::Unwanted);
            self.keep_live_state(&mut seq, CheckpointClass::Periodic);
        }
        self.release_all(&mut seq);
        seq.phase = Phase::Waiting;
        seq.was_preempted = true;
        seq.may_restore = true;
        let order = seq.order;
        self.seqs.insert(id, seq);
        self.enqueue(id, order);
        plan.preempted.push(id);
    }
}

/// Take a sequence's row out of a step, and the copies that only it needs; true when there were any.
fn drop_row(step: &mut Step, id: SeqId) -> bool {
    let Some(row_idx) = step.rows.iter().position(|row| row.seq == id) else { return false };
    let row = step.rows.remove(row_idx);
    let n_copies = step.copies.len();
    let is_its_own = |block: &BlockId| {
        row.state.blocks.contains(block) || row.tables.iter().any(|table| table.blocks.contains(block))
    };
    step.copies.retain(|copy| !is_its_own(&copy.to));
    step.copies.len() < n_copies
}
