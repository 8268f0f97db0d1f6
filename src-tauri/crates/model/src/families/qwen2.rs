//! Qwen 2 and 2.5, and what was distilled into them: vectors are added to queries, keys and values.

use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, layer_tensors, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, AttentionPlan, ModelPlan};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;
use crate::plan::weights::AttentionWeights;

pub(super) const FAMILY: Family = Family { architecture: "qwen2", plan, tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    sizes.plan(keys, keys.rope(RopePairs::SplitHalf, sizes.n_rot)?, Activation::Silu)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, |names, plan, layer| {
        let AttentionPlan { n_heads, n_kv_heads, k_dim, v_dim, .. } = layer.attention;
        let mut tensors = layer_tensors(names, plan, layer);
        let AttentionWeights { q, k, v, .. } = &mut tensors.attention;
        if q.matrix.part.is_none() {
            q.bias = Some(names.vector("attn_q.bias", n_heads * k_dim));
            k.bias = Some(names.vector("attn_k.bias", n_kv_heads * k_dim));
            v.bias = Some(names.vector("attn_v.bias", n_kv_heads * v_dim));
        }
        tensors
    })
}
