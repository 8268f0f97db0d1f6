//! What the engine is told once, at its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use store::{BlockStore, StoreOff};

use crate::clock::Clock;
use crate::hold_points::HoldPoints;
use crate::told::loader::MemoryLimit;
use crate::told::model_name::ModelName;

/// Bounds and companions of a [`crate::BatchEngine`].
#[derive(Clone)]
pub struct EngineConfig {
    /// The model that is loaded at the start, and that a request without a name gets.
    pub default_model: ModelName,
    /// How much memory models may take in all.
    pub memory_limit: MemoryLimit,
    /// How long the requests of a model may go on that leaves to make room for another.
    pub leave_timeout: Duration,
    /// Permits: requests running and waiting together.
    pub max_requests: usize,
    /// How long a request may wait for room in the pool before it is told `PoolExhausted`.
    pub queue_timeout: Duration,
    /// Tokens that a step computes at most; the engine lowers it while steps take longer than `step_target`.
    pub step_token_budget: usize,
    /// Prompt tokens of one sequence that a step computes at most.
    pub prefill_chunk: usize,
    /// Sequences that may run at the same time.
    pub max_batch: usize,
    /// How long a step should take at most, so that nobody waits longer for the next token.
    pub step_target: Duration,
    /// Where blocks are kept beyond the pool.
    pub store: Arc<dyn BlockStore>,
    /// Where tests hold the engine; nothing in release builds.
    pub holds: HoldPoints,
    /// What time it is; tests set it.
    pub clock: Clock,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            default_model: ModelName::from("default"),
            memory_limit: Arc::new(|| None),
            leave_timeout: Duration::from_secs(60),
            max_requests: 128,
            queue_timeout: Duration::from_secs(30),
            step_token_budget: 512,
            prefill_chunk: 256,
            max_batch: 16,
            step_target: Duration::from_millis(250),
            store: Arc::new(StoreOff::default()),
            holds: HoldPoints::none(),
            clock: Clock::system(),
        }
    }
}

impl fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineConfig")
            .field("default_model", &self.default_model)
            .field("max_requests", &self.max_requests)
            .field("queue_timeout", &self.queue_timeout)
            .field("step_token_budget", &self.step_token_budget)
            .field("prefill_chunk", &self.prefill_chunk)
            .field("max_batch", &self.max_batch)
            .field("step_target", &self.step_target)
            .field("store", &if self.store.is_on() { "on" } else { "off" })
            .finish_non_exhaustive()
    }
}
