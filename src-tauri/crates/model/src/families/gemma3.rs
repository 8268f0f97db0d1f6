//! Gemma 3, text only: windows between full layers, norms at both ends of a branch and on queries and keys.

use super::family::Family;
use super::keys::Keys;
use super::layer_names::LayerNames;
use super::transformer::{LayerTensors, Sizes, add_windows, layer_tensors_with, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, AttentionPlan, LayerPlan, ModelPlan};
use crate::plan::rope_plan::{RopePairs, RopePlan};
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "gemma3", plan, tensors };

/// The layers of the 27B model.
const LAYERS_OF_27B: usize = 62;

/// The rotation of windows where the file says nothing.
pub(super) const WINDOW_ROPE_BASE: f32 = 10_000.0;

/// Of so many layers the last one is full, where the file says nothing.
pub(super) const PERIOD: usize = 6;

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    let mut rope = keys.rope(RopePairs::SplitHalf, sizes.n_rot)?;
    keys.add_rope_factors(&mut rope)?;
    let mut plan = sizes.plan(keys, rope, Activation::GeluTanh)?;
    plan.embedding_scale = (sizes.n_embd as f32).sqrt();
    if sizes.n_layers() == LAYERS_OF_27B {
        // It scales by its width per head, which is not its head's size.
        for AttentionPlan { scale, n_heads, .. } in plan.attentions_mut() {
            *scale = 1.0 / ((sizes.n_embd / *n_heads) as f32).sqrt();
        }
    }
    // Asked for with or without windows: without, they say nothing.
    let (base, windows) = (keys.positive("rope.freq_base_swa")?, keys.windows(sizes.n_blocks, PERIOD)?);
    if let Some(window) = keys.window()? {
        // Windows turn by a base of their own and are never stretched.
        let base = base.unwrap_or(WINDOW_ROPE_BASE);
        let plain = RopePlan::plain(RopePairs::SplitHalf, sizes.n_rot, base);
        let rope = RopePlan { factors: plan.ropes[0].factors.clone(), ..plain };
        add_windows(&mut plan, window, rope, &windows);
    }
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, layer)
}

/// The tensors of a layer.
pub(super) fn layer(names: &LayerNames<'_>, plan: &ModelPlan, layer: &LayerPlan) -> LayerTensors {
    let mut tensors = layer_tensors_with(names, plan, layer, |attention, tensors| {
        tensors.q_norm = Some(names.vector("attn_q_norm.weight", attention.k_dim));
        tensors.k_norm = Some(names.vector("attn_k_norm.weight", attention.k_dim));
        tensors.end.post_norm = Some(names.vector("post_attention_norm.weight", plan.n_embd));
    });
    tensors.feed_forward.set_post_norm(Some(names.vector("post_ffw_norm.weight", plan.n_embd)));
    tensors
}
