//! What goes in and out of the scheduler: requests, plans, records for the store.

use address::{BlockKey, ChainHash};

use crate::ids::{BlockId, SeqId, TokenId};
use crate::prompt::CheckedPrompt;
use crate::step::Step;

/// Limits of one scheduler; counts are tokens unless they say otherwise.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// Tokens that one step computes at most; see `Scheduler::set_token_budget`.
    pub step_token_budget: usize,
    /// Sequences that are admitted at one time at most, and so rows of a step.
    pub max_rows: usize,
    /// Tokens of one sequence's prefill in one step at most.
    pub max_chunk: usize,
    /// Positions that the model was trained for.
    pub max_context: usize,
    /// Distance of the windows that window groups keep besides those at message ends.
    pub window_kept_every: usize,
    /// How many smaller requests may be admitted past one that waits for room, before everybody waits with it.
    pub max_passes: usize,
    /// The model's fingerprint; blocks of different salts never match.
    pub salt: [u8; 32],
    /// Whether blocks are written through to a store.
    pub store: StoreMode,
}

impl SchedulerConfig {
    /// The defaults for a model of `max_context` positions and fingerprint `salt`, without a store.
    pub fn new(max_context: usize, salt: [u8; 32]) -> SchedulerConfig {
        SchedulerConfig {
            step_token_budget: 512,
            max_rows: 64,
            max_chunk: 512,
            max_context,
            window_kept_every: 1024,
            max_passes: 16,
            salt,
            store: StoreMode::Off,
        }
    }
}

/// Whether a block must be saved before its memory may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// Completed blocks are not evictable before `Scheduler::mark_saved`.
    On,
    /// No store, or one in error: everything idle is evictable.
    Off,
}

/// A request as the scheduler sees it.
#[derive(Debug, Clone)]
pub struct NewSequence {
    /// A fresh id.
    pub id: SeqId,
    /// Requests of one agent run in the order in which they were submitted, one at a time.
    pub agent: Option<u64>,
    /// The prompt.
    pub prompt: CheckedPrompt,
    /// Tokens to generate at most; 0 computes the prompt only.
    pub max_new_tokens: usize,
    /// Token positions of message ends within the prompt, in any order: where later requests may branch off.
    pub kept_windows: Vec<usize>,
    /// Where the state of recurrent layers is worth keeping.
    pub state_points: StatePoints,
    /// Token positions within the prompt at which earlier answers end: a state may have been kept there, within a block.
    pub answer_ends: Vec<usize>,
    /// Whether the prompt's logits are wanted.
    pub prompt_logits: PromptLogits,
    /// How the conversation went on before, where this prompt leaves what was kept of it.
    pub former: Option<FormerBlock>,
}

/// Positions of a prompt, in tokens, at which a state is worth keeping; each means the end of the block before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatePoints {
    /// Where the system's message and the tools end: what conversations share.
    pub system_end: Option<usize>,
    /// How far the prompt survives one more message of the user's, whatever the template drops.
    pub return_point: Option<usize>,
    /// Where the last message ends, before what the template adds to have an answer generated.
    pub generation_start: Option<usize>,
}

/// What a kept state is for; those that come first are given up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckpointClass {
    /// One of a long prefill, at equal distances.
    Periodic,
    /// An answer's end.
    AnswerEnd,
    /// The last block's end before the generation prompt.
    GenerationStart,
    /// The point to which the next turn of the conversation goes back.
    ReturnPoint,
    /// The end of the system's message and the tools.
    SystemEnd,
}

/// A place at which a sequence's state was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose.
    pub seq: SeqId,
    /// Its address.
    pub hash: ChainHash,
    /// What it is kept for.
    pub class: CheckpointClass,
    /// Leading tokens that it is the state of.
    pub n_tokens: usize,
    /// Whether it was taken or found there; else there was no room that nobody needs.
    pub is_there: bool,
}

/// A block that the store may have although nothing of the prompt leads to its address: it continues the prompt's
/// first `block_idx` blocks, and begins like the rest of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerBlock {
    /// Its index in blocks from the start.
    pub block_idx: usize,
    /// Its address.
    pub hash: ChainHash,
    /// All its tokens.
    pub tokens: Vec<TokenId>,
}

/// Which logits of a prompt are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptLogits {
    /// Those of the last token, to sample from.
    Last,
    /// Those of every token: the whole prompt is computed and its rows ask for `Wanted::AllLogits`.
    All,
}

/// What `Scheduler::submit` made of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// `max_new_tokens`, clamped to the room that the effective context leaves.
    pub max_new_tokens: usize,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The prompt does not fit the effective context, not even alone.
    #[error("a prompt of {n_tokens} tokens where at most {limit} fit")]
    TooLong {
        /// Tokens of the prompt.
        n_tokens: usize,
        /// The smaller of the context that the model was trained for and of what the pool holds.
        limit: usize,
    },
    /// The id is in use.
    #[error("sequence {0:?} exists")]
    DuplicateId(SeqId),
}

/// What to do next, and what was decided on the way to it.
///
/// When `step.rows` is empty, nothing can run until the caller calls `submit`, `finish`, `finish_restore`,
/// `mark_saved`, `unpin` or `set_store`, so it may block on its inbox; it need not commit such a plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The forward pass to run; decodes come first.
    pub step: Step,
    /// Sequences that left the queue, in order.
    pub admitted: Vec<Admitted>,
    /// Running sequences that lost their blocks and wait again; they lose no token.
    pub preempted: Vec<SeqId>,
    /// Sequences that cannot go on and are gone from the scheduler.
    pub ended: Vec<Ended>,
    /// Blocks to read from the store; each sequence waits until `Scheduler::finish_restore`.
    pub restores: Vec<Restore>,
    /// Sequences that could run but wait for memory that is being saved or restored into.
    pub stalled: Vec<SeqId>,
}

/// A sequence that starts (or, after a preemption, resumes) to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Which one.
    pub seq: SeqId,
    /// Leading tokens whose KV was found in the pool, restored ones included.
    pub n_reused: usize,
    /// Of these, tokens that were restored from the store for this sequence.
    pub n_restored: usize,
    /// Tokens behind these whose KV is in the pool too, and is computed again because no state stands at their end.
    pub n_without_state: usize,
    /// Tokens to be computed before the next one can be sampled.
    pub n_to_compute: usize,
}

/// A sequence that the scheduler gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub seq: SeqId,
    /// Why.
    pub reason: EndReason,
    /// What it was: prompt, then what was generated.
    pub tokens: Vec<TokenId>,
    /// Leading tokens that were the prompt.
    pub n_prompt: usize,
    /// Tokens whose KV it had at its end.
    pub n_computed: usize,
    /// The most of them whose KV it had at one time.
    pub n_kept: usize,
}

impl Ended {
    /// How far it came.
    pub fn progress(&self) -> Progress<'_> {
        let Ended { ref tokens, n_prompt, n_computed, n_kept, .. } = *self;
        Progress { tokens, n_prompt, n_computed, n_kept }
    }
}

/// What a sequence consists of, and how far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Prompt, then what was generated and is to be computed.
    pub tokens: &'a [TokenId],
    /// Leading tokens that are the prompt.
    pub n_prompt: usize,
    /// Tokens whose KV is in the pool.
    pub n_computed: usize,
    /// The most of them whose KV was in the pool at one time.
    pub n_kept: usize,
}

impl<'a> Progress<'a> {
    /// The prompt.
    pub fn prompt(&self) -> &'a [TokenId] {
        &self.tokens[..self.n_prompt.min(self.tokens.len())]
    }
}

/// Why the scheduler gave up a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It runs alone and the rest of the pool is pinned.
    PoolExhausted(Shortage),
}

/// Blocks wanted against blocks there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Blocks that the sequence needs beyond those it has or shares.
    pub needed: usize,
    /// Blocks that could be had: free and evictable ones.
    pub free: usize,
    /// Blocks in the pool.
    pub total: usize,
}

/// Blocks that a sequence waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// Who waits.
    pub seq: SeqId,
    /// What to read, parents before children; `block` is reserved for it.
    pub blocks: Vec<RestoreBlock>,
}

/// One block to read from the store and import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreBlock {
    /// Where its bytes go.
    pub block: BlockId,
    /// Which one.
    pub key: BlockKey,
    /// The tokens that it must hold, for a comparison with the record's.
    pub tokens: Vec<TokenId>,
}

/// A block whose content is final, for the store. Parents come before children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedBlock {
    /// Where it is; valid until the next `Scheduler::plan`, and while the store is on until `mark_saved`.
    pub block: BlockId,
    /// Its address.
    pub key: BlockKey,
    /// The chain hash of the prefix before it.
    pub parent: ChainHash,
    /// Index in blocks from the sequence's start.
    pub block_idx: usize,
    /// Its tokens; fewer than a block's for a tail, which is completed by `finish`.
    pub tokens: Vec<TokenId>,
    /// Who computed it; `None` for blocks that were resident when the store was turned on.
    pub seq: Option<SeqId>,
}

/// What a commit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// Sequences that have all the tokens they may have; they get no further row and wait for `finish`.
    pub at_limit: Vec<SeqId>,
}

/// Where a sequence is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeqState {
    /// In the queue: new, preempted, or restored and not yet admitted.
    Waiting,
    /// Its blocks are being read from the store.
    Restoring,
    /// Its prompt is being computed.
    Prefilling {
        /// Tokens whose KV is in the pool.
        n_done: usize,
        /// Tokens before the next one can be sampled.
        n_total: usize,
    },
    /// It gets a token a step.
    Decoding {
        /// Tokens generated so far.
        n_generated: usize,
    },
    /// It has all its tokens; `finish` it.
    AtLimit,
}

/// Counts of sequences and blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerCounts {
    /// Sequences in the queue.
    pub n_waiting: usize,
    /// Sequences whose blocks are being restored.
    pub n_restoring: usize,
    /// Admitted sequences that compute their prompt.
    pub n_prefilling: usize,
    /// Admitted sequences that decode.
    pub n_decoding: usize,
}
