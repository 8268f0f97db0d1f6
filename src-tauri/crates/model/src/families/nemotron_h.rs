//! Nemotron H, and with experts Nemotron 3: layers of one block each, Mamba-2, attention that does not turn, or a
//! feed-forward of squared ReLU without a gate.

use kernels::experts::Scoring;

use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::keys::Keys;
use super::mamba2::mamba2;
use super::transformer::{Sizes, layer_tensors, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::experts::ExpertFunction;
use crate::plan::model_plan::{
    Activation, FeedForwardPlan, GatedPlan, MixerPlan, ModelPlan, UngatedFunction, UngatedPlan,
};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "nemotron_h", plan, tensors };

pub(super) fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    keys.refuse_what_nobody_runs()?;
    let norm_eps = match keys.positive("attention.layer_norm_rms_epsilon")? {
        Some(eps) => eps,
        None => keys.layer_norm_eps()?,
    };
    let sizes = Sizes::read_parts(keys, norm_eps)?;
    // What a file says of rotations is asked for, and nothing turns.
    let rope = keys.rope(RopePairs::Interleaved, sizes.n_rot)?;
    let mut plan = sizes.plan(keys, rope, Activation::Silu)?;
    plan.ropes.clear();
    let defaults =
        Defaults { scoring: Scoring::Sigmoid, is_normalised: false, function: ExpertFunction::SquaredRelu };
    put_experts(keys, &mut plan, &defaults)?;
    let latent = "moe_latent_size";
    let n_latent = match keys.number(latent)? {
        None | Some(0) => None,
        Some(_) => Some(keys.count(latent, None)?),
    };
    let has_experts =
        plan.layers.iter().any(|layer| matches!(layer.feed_forward, FeedForwardPlan::Experts(_)));
    if let Some(n_latent) = n_latent.filter(|_| !has_experts) {
        return Err(Cause::Malformed(format!("experts take {n_latent} values, and there are none")));
    }
    let mamba2 = mamba2(keys)?;
    for (layer_idx, layer) in plan.layers.iter_mut().enumerate() {
        match (&mut layer.mixer, &mut layer.feed_forward) {
            (MixerPlan::Nothing, FeedForwardPlan::Nothing) => layer.mixer = MixerPlan::Recurrent(mamba2),
            (MixerPlan::Softmax(attention), FeedForwardPlan::Nothing) => attention.rope_idx = None,
            (MixerPlan::Nothing, FeedForwardPlan::Experts(experts)) => experts.n_latent = n_latent,
            (MixerPlan::Nothing, FeedForwardPlan::Gated(GatedPlan { n_ff, .. })) => {
                let function = UngatedFunction::SquaredRelu;
                let n_ff = *n_ff;
                layer.feed_forward = FeedForwardPlan::Ungated(UngatedPlan { n_ff, function });
            }
            _ => {
                let cause = format!("layer {layer_idx} has both KV heads and a feed-forward");
                return Err(Cause::Malformed(cause));
            }
        }
    }
    Ok(plan)
}

pub(super) fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, |names, plan, layer| {
        let mut tensors = layer_tensors(names, plan, layer);
        // A layer's one norm is called that, whatever its block is.
        tensors.feed_forward.set_norm(Some(names.vector("attn_norm.weight", plan.n_embd)));
        tensors
    })
}
