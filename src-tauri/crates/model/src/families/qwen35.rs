//! Qwen 3.5 to 3.8: delta nets between gated attentions, whose heads turn in part, along several axes that are one for text.

use kernels::recurrent::delta::KeyHeads;

use super::delta::{layer_tensors, put_delta_nets};
use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "qwen35", plan, tensors };

pub(super) fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    let rope = keys.rope(RopePairs::SplitHalf, sizes.n_rot)?;
    keys.refuse_idle_sections(sizes.n_rot)?;
    let mut plan = sizes.plan(keys, rope, Activation::Silu)?;
    put_delta_nets(keys, &mut plan, KeyHeads::InTurn)?;
    Ok(plan)
}

pub(super) fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, layer_tensors)
}
