//! What of a model no GPU runs here, known from its plan and its file alone.

use crate::file::gguf::Gguf;
use crate::plan::model_plan::{AttentionPlan, FeedForwardPlan, KvPlan, MixerPlan, ModelPlan};

/// Why no GPU runs a model of `plan`, if so: the CPU does then.
pub fn refusal(plan: &ModelPlan, _gguf: &Gguf) -> Option<String> {
    if plan.n_per_layer.is_some() {
        return Some("vectors of tokens for each layer: on the CPU only".to_owned());
    }
    let lacking = plan.layers.iter().find_map(|layer| match layer.mixer {
        MixerPlan::Latent(_) => Some("latent attention"),
        MixerPlan::Softmax(AttentionPlan { kv: KvPlan::Of(_), .. }) => {
            Some("layers that share keys and values")
        }
        MixerPlan::Softmax(AttentionPlan { norms_values: true, .. }) => Some("normed values"),
        MixerPlan::Softmax(_) => match layer.feed_forward {
            FeedForwardPlan::Gated(_) => None,
        },
    });
    lacking.map(|lacking| format!("{lacking}: on the CPU only"))
}
