//! `BatchEngine`: the one thread that turns submitted requests for any loaded model into event streams.
//!
//! It owns the runners, their schedulers and both lifecycles; everybody else holds an [`EngineHandle`], which sends
//! commands to one closed inbox and reads [`State`] and [`Stats`] from watch channels.
//! It knows no candle, no axum and no Tauri.
//!
//! The rooms, each of which uses only those below it:
//!
//! ```text
//! outside    what callers hold: engine, handle, event stream
//! thread     one inbox, one turn after the other
//! models     which models are here, and how much memory each has
//! stepping   a model at work: plan, run, sample, commit
//! lifecycle  two pure tables, and what a drain waits for
//! keeping    blocks to the store and back, conversations, remembered answers
//! sampling   the next token
//! inbox      everything that can be asked of the thread
//! told       what crosses the border
//! ```
//!
//! Read `lifecycle.rs` first, then `inbox/command.rs`, then `stepping/turn.rs`.

#[cfg(any(test, feature = "testing"))]
pub mod testing;

mod clock;
mod config;
mod hold_points;
mod inbox;
mod keeping;
mod lifecycle;
mod models;
mod outside;
mod panic_text;
mod permit;
mod sampling;
mod shared;
mod stepping;
mod tally;
mod thread;
mod told;

pub use clock::Clock;
pub use config::EngineConfig;
pub use hold_points::HoldPoints;
pub use lifecycle::{ModelTransition, ServerTransition, state_of};
pub use models::alone::LoadAlone;
pub use models::budget::{MemoryBudget, Verdict};
pub use models::worker::WorkerRunner;
pub use outside::engine::BatchEngine;
pub use outside::event_stream::EventStream;
pub use outside::handle::EngineHandle;
pub use outside::pending_vectors::PendingVectors;
pub use permit::{Permit, Room};
pub use scheduler::{CheckedPrompt, EmbedSpec, Pooling, PromptFault, Vectors, check_vocabulary};
pub use store::{MissReason, OfModels, Trouble};
pub use told::agent_info::{AgentInfo, AgentOfModel, KeptKv, Tier};
pub use told::backend::{Backend, GpuRefusal, GpuRefusalKind, ServedBy};
pub use told::card::{About, GoesBack, ModelCard, Purpose};
pub use told::checkpoint::CheckpointUse;
pub use told::difference::{Difference, DifferenceReason, PromptPlace};
pub use told::embedding::{EmbedRequest, EmbedUsage, Embedded};
pub use told::event::{Event, FinishReason, TokenLogprob, Usage};
pub use told::histograms::{Histogram, HistogramSnapshot, Histograms};
pub use told::load_progress::LoadProgress;
pub use told::loader::{LoadDesk, Loaded, MemoryLimit, ModelLoader, Needs, PoolWish, Runner};
pub use told::model_name::ModelName;
pub use told::prompt::{ChatFacts, EncodedPrompt, PromptError, PromptNotes};
pub use told::prompt_map::{MessageOutline, PromptMap};
pub use told::readiness::{self, NotReady, NotReadyReason, Readiness, readiness};
pub use told::record::{N_RECORDS, Outcome, RequestRecord};
pub use told::request::{Markers, Refusal, Request, Sampling};
pub use told::request_id::RequestId;
pub use told::sampling_choices::SamplingChoices;
pub use told::state::{After, Failure, FailureKind, IllegalTransition, ModelState, ServerState, State};
pub use told::stats::{
    ActiveRequest, DrainProgress, DrainReport, ModelStats, N_ACTIVE, Phase, PoolCounts, Stats, StoreCounts,
    Totals,
};
pub use told::trace_id::TraceId;

#[cfg(test)]
mod tests;
