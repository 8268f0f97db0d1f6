//! Who runs next, and where in KV memory their tokens land.
//!
//! This crate decides; it never executes. It knows no tensors, no text, no threads, no clocks and no files:
//! time and randomness are arguments, so every decision can be replayed in a test.
//!
//! Read `step.rs` first (what one forward pass is asked to do), then `cache_spec.rs` and `kv_layout.rs`
//! (what a block is), then `block_pool.rs` and `prefix_cache.rs` (what a block becomes), then `plan.rs` and
//! `scheduler.rs` (what is decided, and in which order to call). `src/tests/timelines/` shows all of it at work.

pub mod addresses;
mod admission;
pub mod answer_index;
pub mod answer_starts;
pub mod block_pool;
mod booking;
pub mod cache_spec;
pub mod capacity;
mod chain_hasher;
mod checkpoint_search;
mod checkpoints;
pub mod content;
pub mod embedder;
pub mod footprint;
pub mod ids;
pub mod kv_layout;
pub mod plan;
mod planning;
pub mod prefix_cache;
pub mod prefix_index;
pub mod prefix_trail;
pub mod prompt;
pub mod runner;
pub mod scheduler;
mod sequence;
mod sequence_state;
pub mod splicing;
mod state_blocks;
mod state_layout;
pub mod step;
pub mod text_queue;

pub use address::{BlockKey, ChainHash, GroupId};
pub use addresses::Addresses;
pub use answer_index::{AnswerIndex, AnswerToken, Splice};
pub use answer_starts::AnswerStarts;
pub use block_pool::PoolCounts;
pub use cache_spec::{AttentionSpan, KvDtype, LayerCache, LayerKv, LayerState, ModelCacheSpec, ValuePlace};
pub use capacity::Residency;
pub use chain_hasher::ChainHasher;
pub use embedder::{BATCH_TOKENS, BatchIs, EmbedSpec, Embedder, Pooling, Vectors};
pub use ids::{BlockId, SeqId, TokenId};
pub use kv_layout::{KvLayout, LayerGroup, LayerSlot};
pub use plan::{
    Admitted, Checkpoint, CheckpointClass, Committed, CompletedBlock, EndReason, Ended, FormerBlock,
    NewSequence, Plan, Progress, PromptLogits, Restore, RestoreBlock, SchedulerConfig, SchedulerCounts,
    SeqState, Shortage, StatePoints, StoreMode, SubmitError, Submitted,
};
pub use prefix_trail::{AnswerKey, PrefixTrail};
pub use prompt::{CheckedPrompt, PromptFault, check_vocabulary};
pub use runner::{Begun, Bell, BlockPart, LentBlock, ModelRunner, RunError};
pub use scheduler::Scheduler;
pub use splicing::{SpliceStart, SplicedPrompt, splice_prompt};
pub use state_layout::{LayerStatePlaces, StateLayout, StatePlace};
pub use step::{
    BlockCopy, BlockTable, Hidden, Logits, Row, RowInput, RowState, StateSave, Step, StepOutput, Wanted,
};
pub use text_queue::{QueuedText, TextQueue};

#[cfg(test)]
mod tests;
