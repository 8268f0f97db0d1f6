//! OLMo 2 and 3: branches are normed at their end only, queries and keys over all heads; OLMo 3 has windows, whose
//! rotation is never stretched.

use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, add_windows, layer_tensors_with, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, AttentionPlan, ModelPlan, NormOver};
use crate::plan::rope_plan::{RopePairs, RopePlan};
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "olmo2", plan, tensors };

/// Of so many layers the last one is full, where the file says nothing.
const PERIOD: usize = 4;

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    let rope = keys.rope(RopePairs::SplitHalf, sizes.n_rot)?;
    let base = keys.positive("rope.freq_base_swa")?.unwrap_or(rope.base);
    let mut plan = sizes.plan(keys, rope, Activation::Silu)?;
    plan.attentions_mut().for_each(|attention| attention.norm_over = NormOver::Tokens);
    // Asked for with or without windows: without, it says nothing.
    let windows = keys.windows(sizes.n_blocks, PERIOD)?;
    if let Some(window) = keys.window()? {
        let rope = RopePlan::plain(RopePairs::SplitHalf, sizes.n_rot, base);
        add_windows(&mut plan, window, rope, &windows);
    }
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, |names, plan, layer| {
        let mut tensors = layer_tensors_with(names, plan, layer, |attention, tensors| {
            let AttentionPlan { n_heads, n_kv_heads, k_dim, .. } = *attention;
            tensors.norm = None;
            tensors.q_norm = Some(names.vector("attn_q_norm.weight", n_heads * k_dim));
            tensors.k_norm = Some(names.vector("attn_k_norm.weight", n_kv_heads * k_dim));
            tensors.end.post_norm = Some(names.vector("post_attention_norm.weight", plan.n_embd));
        });
        tensors.feed_forward.set_norm(None);
        tensors.feed_forward.set_post_norm(Some(names.vector("post_ffw_norm.weight", plan.n_embd)));
        tensors
    })
}
