//! A loaded model at work, see `turn.rs`.

pub(crate) mod at_work;
mod between_steps;
mod checkpointing;
pub(crate) mod conversations;
pub(crate) mod embedding;
pub(crate) mod glance;
mod held_logprobs;
pub(crate) mod postponed;
mod reading;
mod sampled;
pub(crate) mod sequence;
pub(crate) mod serving;
mod soundness;
mod step_budget;
pub(crate) mod turn;
pub(crate) mod under_way;
