//! An engine without a model: a scripted runner over a fake pool, steered step by step, and a tiny vocabulary.
//!
//! The runner's next token is a function of *all* the tokens that it reads back from its pool through the block
//! tables, so a wrong table, a stale block or a lost copy gives a wrong answer; and so does the state of other tokens,
//! where the model has one.

mod memory_store;
mod scripted_embedder;
mod scripted_loader;
mod scripted_runner;
mod scripted_state;
mod steering;
mod tiny_text;

pub use memory_store::MemoryStore;
pub use scripted_embedder::ScriptedEmbedder;
pub use scripted_loader::{ScriptedLoader, ScriptedModel};
pub use scripted_runner::{Script, ScriptedRunner};
pub use steering::{Outcome, Steering};
pub use tiny_text::{
    END_OF_TURN, N_VOCAB, START, chatml_text, enclosing_text, strict_text, text_with_template, thinking_text,
    tiny_text, trimming_text,
};
