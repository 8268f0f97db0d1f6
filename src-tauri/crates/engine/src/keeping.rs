//! Context that outlives its sequence: blocks on their way to the store and back, conversations, answers.

pub(crate) mod answers;
pub(crate) mod checkpoints;
mod conversation;
pub(crate) mod former_prompts;
mod kept_parts;
pub(crate) mod manifests;
pub(crate) mod residency;
pub(crate) mod resident_pins;
pub(crate) mod restoring;
pub(crate) mod saving;
mod sent_answers;
