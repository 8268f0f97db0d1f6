//! Qwen 3: queries and keys are normed head by head, and a head's size is not its share of the width.

use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, layer_tensors_with, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "qwen3", plan, tensors };

pub(super) fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    sizes.plan(keys, keys.rope(RopePairs::SplitHalf, sizes.n_rot)?, Activation::Silu)
}

pub(super) fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, |names, plan, layer| {
        layer_tensors_with(names, plan, layer, |attention, tensors| {
            tensors.q_norm = Some(names.vector("attn_q_norm.weight", attention.k_dim));
            tensors.k_norm = Some(names.vector("attn_k_norm.weight", attention.k_dim));
        })
    })
}
