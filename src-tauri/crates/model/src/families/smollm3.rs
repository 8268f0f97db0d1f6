//! SmolLM3: in every fourth layer nothing turns.

use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, layer_tensors, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "smollm3", plan, tensors };

/// The last of so many layers turns nothing. Files do not say so.
const PERIOD: usize = 4;

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    let rope = keys.rope(RopePairs::Interleaved, sizes.n_rot)?;
    let mut plan = sizes.plan(keys, rope, Activation::Silu)?;
    for attention in plan.attentions_mut().skip(PERIOD - 1).step_by(PERIOD) {
        attention.rope_idx = None;
    }
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, layer_tensors)
}
