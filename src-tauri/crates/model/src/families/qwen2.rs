//! Qwen 2 and 2.5, and what was distilled into them: vectors are added to queries, keys and values.

use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, layer_tensors_with, tensors_of};
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
        layer_tensors_with(names, plan, layer, |attention, AttentionWeights { q, k, v, .. }| {
            let AttentionPlan { n_heads, n_kv_heads, k_dim, v_dim, .. } = *attention;
            if q.matrix.part.is_none() {
                q.bias = Some(names.vector("attn_q.bias", n_heads * k_dim));
                let [k_name, v_name] = ["attn_k.bias", "attn_v.bias"];
                k.iter_mut().for_each(|k| k.bias = Some(names.vector(k_name, n_kv_heads * k_dim)));
                v.iter_mut().for_each(|v| v.bias = Some(names.vector(v_name, n_kv_heads * v_dim)));
            }
        })
    })
}
