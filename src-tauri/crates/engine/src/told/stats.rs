//! The numbers beside the state: progress, counts, utilisation. Published by the engine thread, read by all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::Trouble;

use super::load_progress::LoadProgress;
use super::model_name::ModelName;
use super::request_id::RequestId;
use super::state::ModelState;

/// How many requests [`Stats`] names one by one.
pub const N_ACTIVE: usize = 32;

/// Everything that health, metrics, tray and window show besides the state.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Every model that is here, loads or failed; the first one is the default. Sums over them follow.
    pub models: Arc<[ModelStats]>,
    /// Weights of the default model made ready so far.
    pub load: LoadProgress,
    /// Whether the default model has been ready once in this process.
    pub started: bool,
    /// The default model's blocks by state.
    pub pool: PoolCounts,
    /// What is on disk.
    pub store: StoreCounts,
    /// Sequences with rows in steps.
    pub n_running: usize,
    /// Requests taken in and not running yet.
    pub n_waiting: usize,
    /// The requests in flight, by model and in the order in which they came; the first [`N_ACTIVE`] of them.
    pub active: Arc<[ActiveRequest]>,
    /// The last sign of life of the engine thread.
    pub heartbeat: Instant,
    /// When the step under way began.
    pub step_started: Option<Instant>,
    /// The drain under way.
    pub drain: Option<DrainProgress>,
    /// How the last drain ended; the process's exit code depends on it.
    pub last_drain: Option<DrainReport>,
    /// Totals since start.
    pub totals: Totals,
}

/// A model's numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelStats {
    /// Which.
    pub name: ModelName,
    /// Where it is.
    pub state: ModelState,
    /// Weights made ready so far.
    pub load: LoadProgress,
    /// Its blocks by state.
    pub pool: PoolCounts,
    /// Its sequences with rows in steps.
    pub n_running: usize,
    /// Its requests that do not run yet.
    pub n_waiting: usize,
}

/// Blocks by state; `free + held + cached = total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Blocks with nothing in them.
    pub free: usize,
    /// Blocks that cannot be reused at once: of running or restoring sequences, unsaved, pinned resident.
    pub held: usize,
    /// Of the held ones, those that are pinned: of running sequences or of none.
    pub pinned: usize,
    /// Blocks kept for reuse and evictable.
    pub cached: usize,
    /// Of the held ones, those of the states that running sequences have on a model with recurrent layers.
    pub live_states: usize,
    /// Such states that are kept for later requests.
    pub checkpoints: usize,
    /// Their blocks, held or cached.
    pub checkpoint_blocks: usize,
    /// All blocks.
    pub total: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Tokens of a block.
    pub block_tokens: usize,
}

impl PoolCounts {
    /// Held blocks in percent of all, `0.0..=100.0`.
    pub fn utilization(self) -> f64 {
        if self.total == 0 { 0.0 } else { self.held as f64 * 100.0 / self.total as f64 }
    }

    /// Strictly above 90 %, compared as integers; exactly 90 % is not.
    pub fn is_near_exhaustion(self) -> bool {
        self.held * 10 > self.total * 9
    }
}

/// A request in flight, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveRequest {
    /// The request's id.
    pub id: RequestId,
    /// The agent, where the client named one.
    pub agent: Option<String>,
    /// What it is doing.
    pub phase: Phase,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Prompt tokens whose KV is in the pool, the reused ones included.
    pub n_done: usize,
    /// Tokens sampled.
    pub n_generated: usize,
}

/// What a request in flight is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has not been admitted.
    Waiting,
    /// Its prompt is being computed.
    Reading,
    /// Its answer is.
    Writing,
}

crate::names! {
    pub Phase {
        Waiting => "waiting",
        Reading => "reading",
        Writing => "writing",
    }
}

/// The durable store in numbers; those that count events do so since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Whether blocks are kept on disk at all.
    pub is_on: bool,
    /// Why nothing is being saved now, if that is so.
    pub trouble: Option<Trouble>,
    /// Bytes that wait to be durable.
    pub queued_bytes: u64,
    /// Bytes of all its files.
    pub stored_bytes: u64,
    /// What these never exceed.
    pub max_bytes: u64,
    /// Bytes of blocks that can be restored.
    pub live_bytes: u64,
    /// Bytes written since midnight (UTC).
    pub written_today_bytes: u64,
    /// Bytes written since the start.
    pub written_bytes: u64,
    /// Blocks that can be restored.
    pub n_blocks: u64,
    /// States of recurrent layers that can be restored.
    pub n_checkpoints: u64,
    /// Of the bytes that can be restored, those of these.
    pub checkpoint_bytes: u64,
    /// Blocks made durable.
    pub n_saved: u64,
    /// Blocks that could not be saved.
    pub n_not_saved: u64,
    /// Blocks read back.
    pub n_restored: u64,
    /// Blocks given up for space.
    pub n_evicted: u64,
    /// Records that were damaged.
    pub n_quarantined: u64,
    /// Files of formats that this version does not read.
    pub n_other_versions: u64,
}

impl StoreCounts {
    pub(crate) fn of(store: &dyn store::BlockStore) -> StoreCounts {
        let stats = store.stats();
        StoreCounts {
            is_on: store.is_on(),
            trouble: stats.trouble,
            queued_bytes: stats.queued_bytes,
            stored_bytes: stats.stored_bytes,
            max_bytes: stats.max_bytes,
            live_bytes: stats.live_bytes,
            written_today_bytes: stats.written_today_bytes,
            written_bytes: stats.written_bytes,
            n_blocks: stats.n_blocks,
            n_checkpoints: stats.n_checkpoints,
            checkpoint_bytes: stats.checkpoint_bytes,
            n_saved: stats.n_saved,
            n_not_saved: stats.n_not_saved,
            n_restored: stats.n_restored,
            n_evicted: stats.n_evicted,
            n_quarantined: stats.n_quarantined,
            n_other_versions: stats.n_other_versions,
        }
    }
}

/// A drain under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainProgress {
    /// Sequences still running.
    pub n_active: usize,
    /// Bytes still to be saved.
    pub unsaved_bytes: u64,
    /// When the drain began.
    pub since: Instant,
    /// When running sequences are ended.
    pub deadline: Instant,
}

/// A finished drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Sequences that ran to their own end.
    pub n_drained: usize,
    /// Sequences ended by the deadline.
    pub n_interrupted: usize,
    /// Requests refused because they had not started.
    pub n_refused: usize,
    /// How long it took.
    pub took: Duration,
}

/// Counters since start; they only grow.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Requests taken in.
    pub requests: u64,
    /// Prompt tokens computed.
    pub prefilled_tokens: u64,
    /// Prompt tokens reused.
    pub reused_tokens: u64,
    /// Blocks that came back from the store.
    pub restored_blocks: u64,
    /// Blocks that a prompt could have used and the store could not supply, by reason (`store::MissReason::name`);
    /// of a run of blocks that are not there the first one counts.
    pub restore_misses: BTreeMap<&'static str, u64>,
    /// Prompt tokens whose KV was in the pool and that were computed again because no state of recurrent layers was
    /// kept at their end.
    pub tokens_without_state: u64,
    /// Places at which such a state was to be kept and there was no room for it.
    pub checkpoints_skipped: u64,
    /// Tokens sampled.
    pub generated_tokens: u64,
    /// Steps run.
    pub steps: u64,
    /// Rows of those steps.
    pub rows: u64,
    /// Tokens of those steps.
    pub step_tokens: u64,
    /// Texts that got their vectors.
    pub embedded_texts: u64,
    /// Tokens of these.
    pub embedded_tokens: u64,
    /// Sequences preempted.
    pub preemptions: u64,
    /// Cached blocks given up for new ones.
    pub evictions: u64,
    /// Sequences whose client went away.
    pub cancelled: u64,
    /// Workers rebuilt after a failure.
    pub worker_failures: u64,
    /// Drains begun.
    pub drains: u64,
    /// Drains whose deadline interrupted something.
    pub drain_timeouts: u64,
    /// Sequences that ended by themselves during drains.
    pub drained_sequences: u64,
    /// Sequences that a drain's deadline ended.
    pub interrupted_sequences: u64,
    /// Length of the last drain.
    pub last_drain: Option<Duration>,
    /// Seconds spent in drains.
    pub drain_seconds: f64,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            models: Arc::default(),
            load: LoadProgress::default(),
            started: false,
            pool: PoolCounts::default(),
            store: StoreCounts::default(),
            n_running: 0,
            n_waiting: 0,
            active: Arc::default(),
            heartbeat: Instant::now(),
            step_started: None,
            drain: None,
            last_drain: None,
            totals: Totals::default(),
        }
    }
}
