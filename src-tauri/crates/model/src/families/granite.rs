//! Granite 3 and 4, the dense ones: embeddings, branches, scores and logits are scaled.

use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, layer_tensors, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::file::metadata::MetadataError;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "granite", plan, tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let mut plan = scaled(keys, &Sizes::read(keys)?)?;
    let divisor = keys.positive("logit_scale")?;
    plan.logit_scale =
        1.0 / divisor.ok_or_else(|| MetadataError::Missing { key: keys.key("logit_scale") })?;
    Ok(plan)
}

/// The plan of a model of these sizes, whose logits are as they are.
pub(super) fn scaled(keys: &Keys<'_>, sizes: &Sizes) -> Result<ModelPlan, Cause> {
    let mut rope = keys.rope(RopePairs::Interleaved, sizes.n_rot)?;
    keys.add_rope_factors(&mut rope)?;
    let mut plan = sizes.plan(keys, rope, Activation::Silu)?;
    plan.embedding_scale = keys.positive("embedding_scale")?.unwrap_or(1.0);
    plan.branch_scale = keys.positive("residual_scale")?.unwrap_or(1.0);
    // This family says with that key that nothing turns.
    if keys.bool("rope.scaling.finetuned")? == Some(false) {
        plan.attentions_mut().for_each(|attention| attention.rope_idx = None);
    }
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, layer_tensors)
}
