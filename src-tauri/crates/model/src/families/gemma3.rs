//! Gemma 3, text only: windows between full layers, norms at both ends of a branch and on queries and keys.

use scheduler::AttentionSpan;

use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, layer_tensors, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::{RopePairs, RopePlan};
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "gemma3", plan, tensors };

/// The layers of the 27B model.
const LAYERS_OF_27B: usize = 62;

/// The rotation of windows where the file says nothing.
const WINDOW_ROPE_BASE: f32 = 10_000.0;

/// Of so many layers the last one is full, where the file says nothing.
const PERIOD: usize = 6;

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    let mut rope = keys.rope(RopePairs::SplitHalf, sizes.n_rot)?;
    rope.factors = keys.rope_factors(sizes.n_rot)?;
    let mut plan = sizes.plan(keys, rope, Activation::GeluTanh)?;
    plan.embedding_scale = (sizes.n_embd as f32).sqrt();
    if sizes.n_layers == LAYERS_OF_27B {
        // It scales by its width per head, which is not its head's size.
        let scale = 1.0 / ((sizes.n_embd / sizes.n_heads) as f32).sqrt();
        plan.layers.iter_mut().for_each(|layer| layer.attention.scale = scale);
    }
    // Asked for with or without windows: without, they say nothing.
    let (base, windows) = (keys.positive("rope.freq_base_swa")?, windows(keys, sizes.n_layers)?);
    if let Some(window) = keys.window()? {
        add_windows(&mut plan, window, base.unwrap_or(WINDOW_ROPE_BASE), &windows);
    }
    Ok(plan)
}

/// Which layers look through a window.
fn windows(keys: &Keys<'_>, n_layers: usize) -> Result<Vec<bool>, Cause> {
    const PATTERN: &str = "attention.sliding_window_pattern";
    if let Some(windows) = keys.bools(PATTERN, n_layers)? {
        return Ok(windows);
    }
    let period = keys.count(PATTERN, Some(PERIOD))?;
    Ok((0..n_layers).map(|layer| layer % period < period - 1).collect())
}

/// Windows turn by a base of their own and are never stretched.
fn add_windows(plan: &mut ModelPlan, window: AttentionSpan, base: f32, windows: &[bool]) {
    let rope = RopePlan { base, position_scale: 1.0, ..plan.ropes[0].clone() };
    plan.ropes.push(rope);
    for (layer, _) in plan.layers.iter_mut().zip(windows).filter(|(_, is_window)| **is_window) {
        layer.attention.span = window;
        layer.attention.rope_idx = Some(1);
    }
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, |names, plan, layer| {
        let mut tensors = layer_tensors(names, plan, layer);
        let attention = &mut tensors.attention;
        attention.q_norm = Some(names.vector("attn_q_norm.weight", layer.attention.k_dim));
        attention.k_norm = Some(names.vector("attn_k_norm.weight", layer.attention.k_dim));
        attention.end.post_norm = Some(names.vector("post_attention_norm.weight", plan.n_embd));
        *tensors.feed_forward.post_norm_mut() = Some(names.vector("post_ffw_norm.weight", plan.n_embd));
        tensors
    })
}
