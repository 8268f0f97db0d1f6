//! Qwen 3 Next: as what came of it, Qwen 3.5 with experts, but that neighbouring heads share a key.

use kernels::recurrent::delta::KeyHeads;

use super::delta::put_delta_nets;
use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::keys::Keys;
use super::qwen35;
use super::transformer::Sizes;
use crate::error::Cause;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::RopePairs;

pub(super) const FAMILY: Family = Family { architecture: "qwen3next", plan, tensors: qwen35::tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    let rope = keys.rope(RopePairs::SplitHalf, sizes.n_rot)?;
    let mut plan = sizes.plan(keys, rope, Activation::Silu)?;
    put_delta_nets(keys, &mut plan, KeyHeads::Neighbours)?;
    put_experts(keys, &mut plan, &Defaults::USUAL)?;
    Ok(plan)
}
