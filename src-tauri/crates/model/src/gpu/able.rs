//! What of a model no GPU runs here, known from its plan and its file alone.

use kernels::ggml::GgmlType;

use crate::file::gguf::Gguf;
use crate::plan::model_plan::{AttentionPlan, FeedForwardPlan, KvPlan, MixerPlan, ModelPlan};

/// Why no GPU runs a model of `plan`, if so: the CPU does then.
pub fn refusal(plan: &ModelPlan, gguf: &Gguf) -> Option<String> {
    if plan.encoder.is_some() {
        return Some("vectors of whole texts: on the CPU only".to_owned());
    }
    if plan.n_per_layer.is_some() {
        return Some("vectors of tokens for each layer: on the CPU only".to_owned());
    }
    let lacking = plan.layers.iter().find_map(|layer| match layer.mixer {
        MixerPlan::Latent(_) => Some("latent attention"),
        MixerPlan::Recurrent(_) => Some("recurrent layers"),
        MixerPlan::Nothing => Some("layers of a feed-forward alone"),
        MixerPlan::Softmax(AttentionPlan { kv: KvPlan::Of(_), .. }) => {
            Some("layers that share keys and values")
        }
        MixerPlan::Softmax(AttentionPlan { norms_values: true, .. }) => Some("normed values"),
        MixerPlan::Softmax(AttentionPlan { is_gated: true, .. }) => Some("gated attention"),
        MixerPlan::Softmax(_) => match layer.feed_forward {
            FeedForwardPlan::Experts(_) => Some("mixtures of experts"),
            FeedForwardPlan::Ungated(_) => Some("feed-forwards without a gate"),
            FeedForwardPlan::Nothing => Some("layers of an attention alone"),
            FeedForwardPlan::Gated(_) => None,
        },
    });
    let lacking = lacking.map(|lacking| format!("{lacking}: on the CPU only"));
    let has_sinks = gguf.tensors().iter().any(|tensor| tensor.name.ends_with(".attn_sinks.weight"));
    lacking.or_else(|| has_sinks.then(|| "attention with sinks: on the CPU only".to_owned())).or_else(|| {
        let tensor = gguf.tensors().iter().find(|tensor| !multiplies(tensor.ty))?;
        let (name, ty) = (tensor.name.escape_debug(), tensor.ty.name());
        Some(format!("tensor `{name}`: a GPU does not multiply with weights in {ty}"))
    })
}

/// Hands `$use` the types of tensors that a GPU multiplies with: candle's names for them are the kernels'.
macro_rules! device_types {
    ($use:ident) => {
        $use!(F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K)
    };
}
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
pub(super) use device_types;

/// Whether a GPU multiplies with a tensor of type `ty`.
fn multiplies(ty: GgmlType) -> bool {
    macro_rules! is_one {
        ($($one:ident)+) => {
            matches!(ty, $(GgmlType::$one)|+)
        };
    }
    device_types!(is_one)
}
