//! Granite 4, the hybrid ones: as Granite, with Mamba-2 in layers that have no KV heads, and experts in some models.

use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::granite;
use super::keys::Keys;
use super::mamba2::mamba2;
use super::transformer::{Sizes, layer_tensors, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{MixerPlan, ModelPlan};
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "granitehybrid", plan, tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    keys.refuse_what_nobody_runs()?;
    let sizes = Sizes::read_parts(keys, keys.norm_eps()?)?;
    let mut plan = granite::scaled(keys, &sizes)?;
    plan.logit_scale = 1.0 / keys.positive("logit_scale")?.unwrap_or(1.0);
    let mamba2 = mamba2(keys)?;
    for layer in &mut plan.layers {
        if layer.mixer == MixerPlan::Nothing {
            layer.mixer = MixerPlan::Recurrent(mamba2);
        }
    }
    put_experts(keys, &mut plan, &Defaults::USUAL)?;
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, layer_tensors)
}
