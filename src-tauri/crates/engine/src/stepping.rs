//! A loaded model at work, see `turn.rs`.

mod between_steps;
pub(crate) mod conversations;
mod held_logprobs;
pub(crate) mod postponed;
mod sampled;
pub(crate) mod sequence;
pub(crate) mod serving;
mod soundness;
mod step_budget;
pub(crate) mod turn;
pub(crate) mod under_way;
