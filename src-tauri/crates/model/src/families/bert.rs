//! BERT and what was made of it to compare texts: MiniLM, BGE, E5, GTE and their kin. Positions are learnt, and norms stand
//! behind each branch.

use super::encoder::{encoder_tensors, entry, positions, post_normed, put_encoder};
use super::family::Family;
use super::keys::Keys;
use super::transformer::Sizes;
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{
    Activation, FeedForwardPlan, GatedPlan, ModelPlan, UngatedFunction, UngatedPlan,
};
use crate::plan::rope_plan::{RopePairs, RopePlan};
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "bert", plan, tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let turning = "rope.dimension_count";
    if keys.number(turning)?.is_some_and(|n_rot| n_rot > 0) {
        return Err(Cause::Unsupported(format!("`{}` where positions are learnt", keys.key(turning))));
    }
    let sizes = Sizes::with_eps(keys, keys.layer_norm_eps()?)?;
    let nothing_turns = RopePlan::plain(RopePairs::SplitHalf, sizes.n_rot, 1.0);
    let mut plan = sizes.plan(keys, nothing_turns, Activation::GeluTanh)?;
    plan.ropes.clear();
    plan.attentions_mut().for_each(|attention| attention.rope_idx = None);
    let function = UngatedFunction::GeluTanh;
    for layer in &mut plan.layers {
        if let FeedForwardPlan::Gated(GatedPlan { n_ff, .. }) = layer.feed_forward {
            layer.feed_forward = FeedForwardPlan::Ungated(UngatedPlan { n_ff, function });
        }
    }
    put_encoder(keys, &mut plan)?;
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    let mut list = encoder_tensors(plan, gguf, None, post_normed);
    let mut entry = entry(plan, gguf);
    entry.positions = Some(positions(plan));
    list.weights.entry = Some(entry);
    list
}
