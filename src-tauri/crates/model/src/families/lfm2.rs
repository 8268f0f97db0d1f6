//! LFM 2: short convolutions where a layer has no KV heads; heads of the others are normed.

use kernels::recurrent::conv::MAX_TAPS;

use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, layer_tensors_with, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, MixerPlan, ModelPlan};
use crate::plan::recurrent::{RecurrentPlan, ShortConvPlan};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;
use crate::plan::weights::Ending;

pub(super) const FAMILY: Family = Family { architecture: "lfm2", plan, tensors };

/// What the norm in front of the output head is called here.
const FINAL_NORM: &str = "token_embd_norm.weight";

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let mut plan = convolving(keys)?;
    if let Some(window) = keys.window()? {
        plan.attentions_mut().for_each(|attention| attention.span = window);
    }
    Ok(plan)
}

/// The plan of a model that looks at everything where it attends.
pub(super) fn convolving(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    keys.refuse_what_nobody_runs()?;
    let sizes = Sizes::read_parts(keys, keys.norm_eps()?)?;
    let mut plan = sizes.plan(keys, keys.rope(RopePairs::SplitHalf, sizes.n_rot)?, Activation::Silu)?;
    const TAPS: &str = "shortconv.l_cache";
    let (n_channels, n_taps) = (plan.n_embd, keys.count_to(TAPS, None, MAX_TAPS)?);
    if n_taps == 1 {
        return Err(Cause::Unsupported(format!(
            "`{}` of 1: a convolution of nothing before",
            keys.key(TAPS)
        )));
    }
    for layer in &mut plan.layers {
        if layer.mixer == MixerPlan::Nothing {
            let conv = ShortConvPlan { n_channels, n_taps };
            layer.mixer = MixerPlan::Recurrent(RecurrentPlan::ShortConv(conv));
        }
    }
    Ok(plan)
}

pub(super) fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    let mut list = tensors_of(plan, gguf, |names, plan, layer| {
        layer_tensors_with(names, plan, layer, |attention, tensors| {
            tensors.q_norm = Some(names.vector("attn_q_norm.weight", attention.k_dim));
            tensors.k_norm = Some(names.vector("attn_k_norm.weight", attention.k_dim));
        })
    });
    if let Ending::Logits(head) = &mut list.weights.ending {
        FINAL_NORM.clone_into(&mut head.norm.name);
    }
    list
}
