//! What of a model no GPU runs here, known from its plan and its file alone.

use kernels::ggml::GgmlType;

use crate::file::gguf::Gguf;
use crate::plan::model_plan::{FeedForwardPlan, ModelPlan};

/// Why no GPU runs a model of `plan`, if so: the CPU does then.
pub fn refusal(plan: &ModelPlan, gguf: &Gguf) -> Option<String> {
    let of_plan = plan.layers.iter().find_map(|layer| match layer.feed_forward {
        FeedForwardPlan::Gated(_) => None,
    });
    of_plan.or_else(|| {
        let tensor = gguf.tensors().iter().find(|tensor| !multiplies(tensor.ty))?;
        Some(format!("tensor `{}` is quantised as {}", tensor.name.escape_debug(), tensor.ty.name()))
    })
}

/// Whether a GPU multiplies with a tensor of type `ty`.
fn multiplies(ty: GgmlType) -> bool {
    match ty {
        GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => true,
        GgmlType::Q4_0 | GgmlType::Q4_1 | GgmlType::Q5_0 | GgmlType::Q5_1 | GgmlType::Q8_0 => true,
        GgmlType::Q4K | GgmlType::Q5K | GgmlType::Q6K => true,
    }
}
