//! How the engine gets a model: a loader that the app plugs in, run on a thread of its own.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use scheduler::ModelRunner;
use text::TextModel;

use crate::sampling_choices::SamplingChoices;

/// Loads a model. Called again for a retry and after a worker's death.
pub trait ModelLoader: Send + Sync {
    /// Load, reporting real progress (bytes of weights done) as it goes. An answer to break off means that nobody
    /// waits for the model any more: what has been loaded is to be dropped.
    ///
    /// `restorable_bytes` of KV lie on disk and may come back into the pool soon.
    ///
    /// # Errors
    /// One line for the user that names the file and the cause.
    fn load(
        &self,
        restorable_bytes: u64,
        progress: &dyn Fn(LoadProgress) -> ControlFlow<()>,
    ) -> Result<Loaded, String>;
}

/// Bytes of weights made ready so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes in all; 0 = not known yet.
    pub bytes_total: u64,
}

impl LoadProgress {
    /// `0.0..=1.0`.
    pub fn fraction(self) -> f64 {
        if self.bytes_total == 0 { 0.0 } else { self.bytes_done as f64 / self.bytes_total as f64 }
    }
}

/// A loaded model: what runs it and what everybody may know of it.
pub struct Loaded {
    /// Executes steps; moves into the engine thread.
    pub runner: Box<dyn ModelRunner>,
    /// Shared with the server's handlers.
    pub card: Arc<ModelCard>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("card", &self.card.name).finish_non_exhaustive()
    }
}

/// What the house knows of the loaded model.
pub struct ModelCard {
    /// The id in `/v1/models`.
    pub name: String,
    /// Vocabulary and chat template.
    pub text: Arc<TextModel>,
    /// What is wrong with the chat template, found when it was tried with one plain message.
    pub template_fault: Option<String>,
    /// Positions that the model was trained for.
    pub trained_context: usize,
    /// Tokens that one request may have: the smaller of the model's context and the pool's.
    pub effective_context: usize,
    /// Salt of the prefix hashes: the model's fingerprint.
    pub fingerprint: [u8; 32],
    /// Bytes of the weights' file.
    pub file_bytes: u64,
    /// How its makers recommend to sample it.
    pub sampling: SamplingChoices,
    /// When it was loaded.
    pub loaded_at: SystemTime,
}
