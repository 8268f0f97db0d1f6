//! Who runs next: admission, chunked prefill, preemption and prefix reuse over one block pool.
//!
//! ```text
//! submit ─▶ Waiting ─plan─▶ Prefilling ─commit─▶ Decoding ─commit─▶ AtLimit
//!             ▲  │ plan         │                   │                  │
//!             │  ▼              │ plan (preempt)    │                  │
//!             │ Restoring       │                   │                  │
//!             │  │ finish_restore                   │                  │
//!             ◀──┴──────────────┴───────────────────┘     finish / cancel: from every state
//! ```
//!
//! The caller's loop, with every other call between `commit` and the next `plan`:
//!
//! ```text
//! let plan = scheduler.plan(&|key| store.holds(key));
//! runner.run(&plan.step, &mut logits)?;
//! let sampled = sample(&plan.step, &logits);
//! let committed = scheduler.commit(&plan.step, &sampled);
//! ```

use crate::block_pool::PoolCounts;
use crate::hash::{BlockKey, ChainHash};
use crate::ids::{SeqId, TokenId};
use crate::kv_layout::KvLayout;
use crate::plan::{
    Committed, CompletedBlock, NewSequence, Plan, SchedulerConfig, SchedulerCounts, SeqState, Shortage,
    StoreMode, SubmitError, Submitted,
};
use crate::step::Step;

/// Decides what each step computes and where its KV lies.
///
/// Between a [`Scheduler::plan`] and its [`Scheduler::commit`] only `submit`, `finish` and `cancel` are legal.
/// A plan whose step failed as a whole is not committed: the pool's content is void then, and so is the scheduler.
pub struct Scheduler {
    layout: KvLayout,
}

impl Scheduler {
    /// A scheduler over an empty pool of `n_blocks` blocks.
    pub fn new(layout: &KvLayout, n_blocks: usize, config: SchedulerConfig) -> Scheduler {
        let _ = (n_blocks, config);
        Scheduler { layout: layout.clone() }
    }

    /// Positions that a sequence can have: the smaller of the model's and of what the pool holds for one alone.
    pub fn effective_context(&self) -> usize {
        self.layout.block_tokens
    }

    /// Queue a request; it is looked at by the next [`Scheduler::plan`]. Legal at any time.
    ///
    /// # Errors
    /// The prompt is empty or does not fit the effective context, or the id is in use.
    pub fn submit(&mut self, new: NewSequence) -> Result<Submitted, SubmitError> {
        unimplemented!("{new:?}")
    }

    /// Decide the next step: admit, grow, preempt.
    ///
    /// `stored` says whether the store could supply a block; `&|_| false` without a store.
    pub fn plan(&mut self, stored: &dyn Fn(&BlockKey) -> bool) -> Plan {
        let _ = stored;
        unimplemented!()
    }

    /// Book a step that ran: its tokens are computed, `sampled` are appended.
    ///
    /// Each sequence whose row reached its last token (`LogitsWanted::Last` or the end of an `All` row) should have
    /// one sampled token; one without gets no further row until `finish`.
    /// Rows and tokens of sequences that were finished since the plan are ignored.
    pub fn commit(&mut self, step: &Step, sampled: &[(SeqId, TokenId)]) -> Committed {
        unimplemented!("{step:?} {sampled:?}")
    }

    /// End a sequence, in whatever state; its KV stays as cache, a last partial block too.
    ///
    /// Returns false when there is no such sequence (it ended in a plan, or was finished before).
    pub fn finish(&mut self, id: SeqId) -> bool {
        unimplemented!("{id:?}")
    }

    /// End a sequence that nobody listens to any more; does what [`Scheduler::finish`] does.
    pub fn cancel(&mut self, id: SeqId) -> bool {
        self.finish(id)
    }

    /// Change the token budget of a step, from the next plan on. Clamped so that a step can always hold something.
    pub fn set_token_budget(&mut self, n_tokens: usize) {
        let _ = n_tokens;
    }

    /// Start `child` from the KV of `parent`, which decodes, with `next` instead of the parent's last token.
    ///
    /// Blocks are shared; the last one is copied on the first write. Returns false, and does nothing, when the
    /// parent does not decode, the child exists, or no row is left for it.
    pub fn fork(&mut self, parent: SeqId, child: SeqId, next: TokenId, max_new_tokens: usize) -> bool {
        unimplemented!("{parent:?} {child:?} {next} {max_new_tokens}")
    }

    /// Where a sequence is in its life; `None` when it is gone.
    pub fn state(&self, id: SeqId) -> Option<SeqState> {
        unimplemented!("{id:?}")
    }

    /// What a waiting sequence lacks, for a refusal after its time in the queue is over.
    pub fn shortage(&self, id: SeqId) -> Option<Shortage> {
        unimplemented!("{id:?}")
    }

    /// How many sequences are in which state.
    pub fn counts(&self) -> SchedulerCounts {
        unimplemented!()
    }

    /// How many blocks are in which state.
    pub fn pool(&self) -> PoolCounts {
        unimplemented!()
    }

    /// Blocks completed since the last call, parents before children.
    ///
    /// With the store on, each of them must get a [`Scheduler::mark_saved`] at some time.
    pub fn take_completed(&mut self) -> Vec<CompletedBlock> {
        unimplemented!()
    }

    /// The block is in the store, or will never be: its memory may be taken when it is idle.
    pub fn mark_saved(&mut self, key: &BlockKey) {
        unimplemented!("{key:?}")
    }

    /// Turn write-through on or off; off makes every unsaved block evictable.
    pub fn set_store(&mut self, mode: StoreMode) {
        unimplemented!("{mode:?}")
    }

    /// The addresses beyond a waiting sequence's hit, in order, that a store would have to hold to extend it.
    pub fn missing_after_hit(&self, id: SeqId) -> Vec<BlockKey> {
        unimplemented!("{id:?}")
    }

    /// A restore of a [`Plan`] is over; `imported` are the blocks whose bytes are in the pool now.
    ///
    /// The rest of its blocks is given back; the sequence is admitted by a later plan with what is resident then.
    /// Nothing happens when the sequence is gone: its blocks may have another owner, so check
    /// [`Scheduler::state`] is `Restoring` *before* importing bytes that arrive late.
    pub fn finish_restore(&mut self, id: SeqId, imported: &[BlockKey]) {
        unimplemented!("{id:?} {imported:?}")
    }

    /// The addresses of the whole blocks of `tokens`, in order.
    pub fn block_hashes(&self, tokens: &[TokenId]) -> Vec<ChainHash> {
        unimplemented!("{tokens:?}")
    }

    /// Whether the block is in the pool.
    pub fn is_resident(&self, key: &BlockKey) -> bool {
        unimplemented!("{key:?}")
    }

    /// Keep blocks in the pool when they are idle; returns how many of them are pinned now.
    ///
    /// Blocks that are not resident are passed over, and at most half the pool is ever pinned.
    pub fn pin(&mut self, keys: &[BlockKey]) -> usize {
        unimplemented!("{keys:?}")
    }

    /// Undo [`Scheduler::pin`].
    pub fn unpin(&mut self, keys: &[BlockKey]) {
        unimplemented!("{keys:?}")
    }

    /// Drop idle blocks from the pool, last first; returns how many went. Held, unsaved and pinned ones stay.
    pub fn evict(&mut self, keys: &[BlockKey]) -> usize {
        unimplemented!("{keys:?}")
    }

    /// Check every invariant of pool, index and tables; for tests.
    ///
    /// # Errors
    /// Names the first invariant that does not hold.
    pub fn check_integrity(&self) -> Result<(), String> {
        unimplemented!()
    }
}
