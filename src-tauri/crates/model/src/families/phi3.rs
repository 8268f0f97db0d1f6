//! Phi 3 and 4: fused projections, heads that turn in part, factors for short and for long contexts.

use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, layer_tensors, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, FeedForwardPlan, GatedPlan, ModelPlan};
use crate::plan::rope_plan::RopePairs;
use crate::plan::tensor_list::TensorList;
use crate::plan::weights::FeedForwardWeights;

pub(super) const FAMILY: Family = Family { architecture: "phi3", plan, tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    let mut rope = keys.rope(RopePairs::SplitHalf, sizes.n_rot)?;
    // Its files do not say a type of scaling.
    keys.add_long_factors(&mut rope)?;
    let mut plan = sizes.plan(keys, rope, Activation::Silu)?;
    // Files of later models have the whole context there.
    if let Some(window) = keys.window()?.filter(|window| window.window() < Some(plan.max_context)) {
        plan.attentions_mut().for_each(|attention| attention.span = window);
    }
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, |names, plan, layer| {
        let mut tensors = layer_tensors(names, plan, layer);
        if let (FeedForwardPlan::Gated(GatedPlan { n_ff, .. }), FeedForwardWeights::Gated(gated)) =
            (layer.feed_forward, &mut tensors.feed_forward)
        {
            // The gate's rows come first.
            [gated.gate, gated.up] = names.fused("ffn_up", plan.n_embd, [n_ff, n_ff]);
        }
        tensors
    })
}
