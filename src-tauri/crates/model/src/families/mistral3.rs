//! Mistral 3: Ministral, Devstral Small 2, Magistral. Queries grow with their position.

use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, layer_tensors, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "mistral3", plan, tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    let mut rope = keys.rope(RopePairs::Interleaved, sizes.n_rot)?;
    keys.add_rope_factors(&mut rope)?;
    let mut plan = sizes.plan(keys, rope, Activation::Silu)?;
    let temperature = keys.temperature()?;
    plan.attentions_mut().for_each(|attention| attention.temperature = temperature);
    put_experts(keys, &mut plan, &Defaults::USUAL)?;
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, layer_tensors)
}
