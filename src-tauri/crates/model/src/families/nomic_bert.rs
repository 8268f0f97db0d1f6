//! Nomic Embed 1 and 1.5: a BERT that turns queries and keys with their position, with a gated feed-forward and mostly
//! without biases.

use super::encoder::{encoder_tensors, entry, post_normed, put_encoder};
use super::family::Family;
use super::keys::Keys;
use super::transformer::Sizes;
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "nomic-bert", plan, tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::with_eps(keys, keys.layer_norm_eps()?)?;
    let rope = keys.rope(RopePairs::SplitHalf, sizes.n_rot)?;
    let mut plan = sizes.plan(keys, rope, Activation::Silu)?;
    put_encoder(keys, &mut plan)?;
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    let mut list = encoder_tensors(plan, gguf, None, post_normed);
    list.weights.entry = Some(entry(plan, gguf));
    list
}
