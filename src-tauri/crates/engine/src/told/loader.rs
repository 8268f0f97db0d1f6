//! How the engine gets a model: a loader that the app plugs in, run on a thread of its own.

use std::ops::ControlFlow;
use std::sync::Arc;

use scheduler::{Embedder, ModelRunner};

use super::card::ModelCard;
use super::load_progress::LoadProgress;
use super::model_name::ModelName;
use super::state::Failure;

/// Loads models. Called again for a retry and after a worker's death.
pub trait ModelLoader: Send + Sync {
    /// Load the model of this name. What it needs is asked of `desk` before the weights are read, and what it has
    /// done is reported there.
    ///
    /// # Errors
    /// The kind, and one line for the user that names the file and the cause.
    fn load(&self, model: &ModelName, desk: &dyn LoadDesk) -> Result<Loaded, Failure>;
}

/// Where a loader asks and reports.
pub trait LoadDesk {
    /// Bytes of KV that lie on disk and may come back into the pool soon.
    fn restorable_bytes(&self) -> u64;

    /// Ask for memory; returns bytes for the KV pool, which are promised from then on. It may take as long as others
    /// take to leave.
    ///
    /// # Errors
    /// There is no room, or nobody waits for the model any more.
    fn pool_bytes(&self, needs: &Needs) -> Result<u64, Failure>;

    /// Report real progress (bytes of weights done). An answer to break off means that nobody waits for the model any
    /// more: what has been loaded is to be dropped.
    fn progress(&self, progress: LoadProgress) -> ControlFlow<()>;
}

/// Tells how many bytes models may take in all, weights and pools together, if that is known.
pub type MemoryLimit = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// What a model will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of the weights in memory.
    pub weights_bytes: u64,
    /// The smallest pool that holds a context.
    pub least_pool_bytes: u64,
    /// The pool that it should have.
    pub pool: PoolWish,
    /// What the device that computes has in all, where that is not the machine's memory.
    pub device_bytes: Option<u64>,
}

/// How large a pool should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolWish {
    /// As many bytes.
    Fixed(u64),
    /// What there is room for, and no more than this, which is all that can be used.
    AtMost(u64),
}

/// A loaded model: what runs it and what everybody may know of it.
pub struct Loaded {
    /// What computes; moves into the engine thread.
    pub runner: Runner,
    /// Shared with the server's handlers.
    pub card: Arc<ModelCard>,
}

/// What computes, by what it is for.
pub enum Runner {
    /// Goes on with tokens.
    Generates(Box<dyn ModelRunner>),
    /// Gives texts their vectors.
    Embeds(Box<dyn Embedder>),
}

impl Runner {
    /// One that goes on with tokens, for those who have no use for another.
    pub fn generating(self) -> Option<Box<dyn ModelRunner>> {
        match self {
            Runner::Generates(runner) => Some(runner),
            Runner::Embeds(_) => None,
        }
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("card", &self.card.name).finish_non_exhaustive()
    }
}
