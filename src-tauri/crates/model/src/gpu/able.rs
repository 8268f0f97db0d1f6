//! What of a model no GPU runs here, known from its plan and its file alone.

use crate::file::gguf::Gguf;
use crate::plan::model_plan::{FeedForwardPlan, ModelPlan};

/// Why no GPU runs a model of `plan`, if so: the CPU does then.
pub fn refusal(plan: &ModelPlan, gguf: &Gguf) -> Option<String> {
    let has_experts =
        plan.layers.iter().any(|layer| matches!(layer.feed_forward, FeedForwardPlan::Experts(_)));
    let has_sinks = gguf.tensors().iter().any(|tensor| tensor.name.ends_with(".attn_sinks.weight"));
    let lacks = [(has_experts, "mixtures of experts"), (has_sinks, "attention with sinks")];
    lacks.into_iter().find_map(|(is_there, what)| is_there.then(|| format!("no {what} on a GPU here")))
}
