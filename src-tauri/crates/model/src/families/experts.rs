//! Mixtures of experts as files describe them: their sizes, and how a token's experts are chosen.

use kernels::activations::Gate;
use kernels::experts::{ExpertGroups, Router, Scoring};

use super::keys::Keys;
use crate::error::Cause;
use crate::plan::experts::{ExpertFunction, ExpertsPlan};
use crate::plan::model_plan::{FeedForwardPlan, GatedPlan, ModelPlan};

/// More than any model has.
const MAX_EXPERTS: usize = 1024;

/// What a family does where its file says nothing.
pub(super) struct Defaults {
    pub(super) scoring: Scoring,
    pub(super) is_normalised: bool,
    pub(super) function: ExpertFunction,
}

impl Defaults {
    /// Softmax over all experts, weights that sum to 1, gates of SiLU.
    pub(super) const USUAL: Defaults = Defaults {
        scoring: Scoring::Softmax,
        is_normalised: true,
        function: ExpertFunction::Gated(Gate::Silu),
    };
}

/// Give the layers of `plan` behind the leading dense ones the mixture that the file describes, if it describes one. An
/// expert is as wide as a layer's dense feed-forward would be, unless the file says otherwise.
pub(super) fn put_experts(keys: &Keys<'_>, plan: &mut ModelPlan, defaults: &Defaults) -> Result<(), Cause> {
    if keys.number("expert_count")?.unwrap_or(0) == 0 {
        return Ok(());
    }
    let n_experts = keys.count_to("expert_count", None, MAX_EXPERTS)?;
    let router = router(keys, n_experts, defaults)?;
    let n_dense = keys.number("leading_dense_block_count")?.unwrap_or(0);
    let step = keys.number("interleave_moe_layer_step")?.unwrap_or(0);
    if step > 1 {
        return Err(Cause::Unsupported(format!("experts in one of {step} layers")));
    }
    let own_n_ff = width(keys, "expert_feed_forward_length")?;
    let n_shared = keys.number("expert_shared_count")?.unwrap_or(0);
    let shared_n_ff = width(keys, "expert_shared_feed_forward_length")?;
    for layer in plan.layers.iter_mut().skip(n_dense) {
        let FeedForwardPlan::Gated(GatedPlan { n_ff, .. }) = layer.feed_forward else { continue };
        let n_ff = own_n_ff.unwrap_or(n_ff);
        let of_shared = || n_ff.checked_mul(n_shared).filter(|&n_ff| n_ff > 0);
        layer.feed_forward = FeedForwardPlan::Experts(ExpertsPlan {
            n_ff,
            n_latent: None,
            function: defaults.function,
            router_scale: 1.0,
            router,
            shared_n_ff: shared_n_ff.or_else(of_shared),
        });
    }
    Ok(())
}

/// A width, if the file says one.
fn width(keys: &Keys<'_>, rest: &str) -> Result<Option<usize>, Cause> {
    match keys.number(rest)? {
        None | Some(0) => Ok(None),
        Some(_) => keys.count(rest, None).map(Some),
    }
}

/// How the file says that experts are chosen.
fn router(keys: &Keys<'_>, n_experts: usize, defaults: &Defaults) -> Result<Router, Cause> {
    let n_used = keys.count_to("expert_used_count", None, n_experts)?;
    let scoring = match keys.number("expert_gating_func")?.unwrap_or(0) {
        0 => defaults.scoring,
        1 => Scoring::Softmax,
        2 => Scoring::Sigmoid,
        3 => Scoring::SoftmaxOfChosen,
        other => return Err(Cause::Unsupported(format!("the way {other} of choosing experts"))),
    };
    let n_groups = keys.number("expert_group_count")?.unwrap_or(0);
    let n_groups_used = keys.number("expert_group_used_count")?.unwrap_or(0);
    let groups = (n_groups > 1).then_some(ExpertGroups { n: n_groups, n_used: n_groups_used });
    if let Some(ExpertGroups { n, n_used: used }) = groups {
        let fits = n_experts.is_multiple_of(n) && (1..=n).contains(&used) && n_used <= n_experts / n * used;
        if !fits {
            return Err(Cause::Malformed(format!(
                "{n_used} of {n_experts} experts, of {used} of {n} groups"
            )));
        }
    }
    let is_normalised = keys.bool("expert_weights_norm")?.unwrap_or(defaults.is_normalised);
    let scale = keys.positive("expert_weights_scale")?.unwrap_or(1.0);
    Ok(Router { n_experts, n_used, scoring, groups, is_normalised, scale })
}
