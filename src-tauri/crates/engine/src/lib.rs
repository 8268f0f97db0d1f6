//! `BatchEngine`: the one thread that turns submitted requests into event streams.
//!
//! It owns the runner, the scheduler and the lifecycle; everybody else holds an [`EngineHandle`],
//! which sends [`Command`]s to one closed inbox and reads [`State`] and [`Stats`] from watch channels.
//! It knows no candle, no axum and no Tauri.
//!
//! Read `lifecycle.rs` first, then `command.rs`, then `batch_engine.rs`.

pub mod lifecycle;
pub mod readiness;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

mod agents;
mod answers;
mod batch_engine;
mod clock;
mod command;
mod config;
mod drain;
mod engine_thread;
mod event;
mod event_stream;
mod handle;
mod held_logprobs;
mod histograms;
mod hold_points;
mod keeping;
mod key_names;
mod ledger;
mod load;
mod loader;
mod rebuilds;
mod record;
mod request;
mod restoring;
mod sampled;
mod sampling;
mod sampling_choices;
mod saving;
mod sequence;
mod serving;
mod soundness;
mod stats;
mod step_budget;
mod windows;

pub use agents::{AgentInfo, Tier};
pub use answers::{EncodedPrompt, PromptError};
pub use batch_engine::BatchEngine;
pub use clock::Clock;
pub use config::EngineConfig;
pub use event::{Event, FinishReason, TokenLogprob, Usage};
pub use event_stream::EventStream;
pub use handle::{EngineHandle, Permit};
pub use histograms::{Histogram, HistogramSnapshot, Histograms};
pub use hold_points::HoldPoints;
pub use lifecycle::{After, FailureCause, IllegalTransition, State, Transition};
pub use loader::{LoadProgress, Loaded, ModelCard, ModelLoader};
pub use readiness::{NotReady, NotReadyReason, Readiness, readiness};
pub use record::{N_RECORDS, RequestRecord};
pub use request::{PromptNotes, Refusal, Request, RequestId, Sampling};
pub use sampling_choices::SamplingChoices;
pub use stats::{
    ActiveRequest, DrainProgress, DrainReport, N_ACTIVE, Phase, PoolCounts, Stats, StoreCounts, Totals,
};
pub use store::{MissReason, Trouble};

#[cfg(test)]
mod tests;
