//! gpt-oss: windows on every other layer, heads with sinks, a bias on every product, experts whose gates are clamped.

use kernels::activations::Gate;
use kernels::experts::Scoring;

use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::keys::Keys;
use super::transformer::{Sizes, add_windows, layer_tensors_with, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::experts::ExpertFunction;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::{RopePairs, RopePlan};
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "gpt-oss", plan, tensors };

/// Of so many layers the last one is full, where the file says nothing.
const PERIOD: usize = 2;

const EXPERTS: Defaults = Defaults {
    scoring: Scoring::SoftmaxOfChosen,
    is_normalised: false,
    function: ExpertFunction::Gated(Gate::ClampedSilu),
};

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::read(keys)?;
    let rope = keys.rope(RopePairs::SplitHalf, sizes.n_rot)?;
    let mut plan = sizes.plan(keys, rope.clone(), Activation::Silu)?;
    // Asked for with or without windows: without, they say nothing.
    let (base, windows) = (keys.positive("rope.freq_base_swa")?, keys.windows(sizes.n_blocks, PERIOD)?);
    if let Some(window) = keys.window()? {
        // Windows are stretched as full layers are.
        let rope = RopePlan { base: base.unwrap_or(rope.base), ..rope };
        add_windows(&mut plan, window, rope, &windows);
    }
    put_experts(keys, &mut plan, &EXPERTS)?;
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, |names, plan, layer| {
        let mut tensors = layer_tensors_with(names, plan, layer, |attention, tensors| {
            tensors.sinks = Some(names.vector("attn_sinks.weight", attention.n_heads));
        });
        tensors.feed_forward.set_norm(Some(names.vector("post_attention_norm.weight", plan.n_embd)));
        tensors
    })
}
