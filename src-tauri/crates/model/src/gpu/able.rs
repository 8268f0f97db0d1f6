//! What of a model no GPU runs here, known from its plan and its file alone.

use crate::file::gguf::Gguf;
use crate::plan::model_plan::{FeedForwardPlan, ModelPlan};

/// Why no GPU runs a model of `plan`, if so: the CPU does then.
pub fn refusal(plan: &ModelPlan, _gguf: &Gguf) -> Option<String> {
    plan.layers.iter().find_map(|layer| match layer.feed_forward {
        FeedForwardPlan::Gated(_) => None,
    })
}
