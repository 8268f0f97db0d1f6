//! Gated delta nets as files describe them, between attentions whose queries come with gates.

use kernels::kv::MAX_HEAD_DIM;
use kernels::recurrent::conv::MAX_TAPS;
use kernels::recurrent::delta::{DeltaShape, KeyHeads};

use super::keys::Keys;
use super::layer_names::LayerNames;
use super::transformer::{LayerTensors, layer_tensors_with};
use crate::error::Cause;
use crate::plan::model_plan::{LayerPlan, MixerPlan, ModelPlan};
use crate::plan::recurrent::{GatedDeltaPlan, RecurrentPlan};
use crate::plan::weights::FeedForwardWeights;

/// More than any model has.
const MAX_HEADS: usize = 1024;

/// Of so many layers the last one attends, where the file says nothing.
const PERIOD: usize = 4;

/// Make layers of `plan` delta nets where the file says so, and let the others' queries come with gates.
pub(super) fn put_delta_nets(
    keys: &Keys<'_>,
    plan: &mut ModelPlan,
    key_heads: KeyHeads,
) -> Result<(), Cause> {
    let delta = delta(keys, key_heads)?;
    let is_recurrent = recurrent_layers(keys, plan.ignored_blocks.end)?;
    for (layer, is_recurrent) in plan.layers.iter_mut().zip(is_recurrent) {
        if is_recurrent {
            layer.mixer = MixerPlan::Recurrent(RecurrentPlan::GatedDelta(delta));
        } else if let Some(attention) = layer.softmax_mut() {
            if attention.k_dim != attention.v_dim {
                let (k_dim, v_dim) = (attention.k_dim, attention.v_dim);
                return Err(Cause::Unsupported(format!("gates of {k_dim} values on values of {v_dim}")));
            }
            attention.is_gated = true;
        }
    }
    Ok(())
}

/// Which of `n_blocks` blocks have a state.
fn recurrent_layers(keys: &Keys<'_>, n_blocks: usize) -> Result<Vec<bool>, Cause> {
    let period = keys.count("full_attention_interval", Some(PERIOD))?;
    const LIST: &str = "attention.recurrent_layers";
    let said = keys.bools(LIST, n_blocks)?;
    let key = keys.key(LIST);
    if said.is_none() && keys.gguf().metadata().get(&key).is_some() {
        return Err(Cause::Unsupported(format!("`{key}`, which is no array of truth values")));
    }
    Ok(said.unwrap_or_else(|| (1..=n_blocks).map(|nth| nth % period != 0).collect()))
}

/// The delta net that the file describes.
fn delta(keys: &Keys<'_>, key_heads: KeyHeads) -> Result<GatedDeltaPlan, Cause> {
    let n_k_heads = keys.count_to("ssm.group_count", None, MAX_HEADS)?;
    let n_v_heads = keys.count_to("ssm.time_step_rank", None, MAX_HEADS)?;
    let k_dim = keys.count_to("ssm.state_size", None, MAX_HEAD_DIM)?;
    let inner = keys.count_to("ssm.inner_size", None, MAX_HEADS * MAX_HEAD_DIM)?;
    let n_taps = keys.count_to("ssm.conv_kernel", None, MAX_TAPS)?;
    if !n_v_heads.is_multiple_of(n_k_heads) || !inner.is_multiple_of(n_v_heads) {
        return Err(Cause::Malformed(format!(
            "a delta net of {inner} values in {n_v_heads} heads on {n_k_heads} heads of keys"
        )));
    }
    let v_dim = inner / n_v_heads;
    if !v_dim.is_multiple_of(DeltaShape::V_DIM_UNIT) || v_dim > MAX_HEAD_DIM {
        let unit = DeltaShape::V_DIM_UNIT;
        return Err(Cause::Unsupported(format!(
            "heads of {v_dim} values in a delta net; multiples of {unit} up to {MAX_HEAD_DIM} are"
        )));
    }
    Ok(GatedDeltaPlan { shape: DeltaShape { n_k_heads, n_v_heads, k_dim, v_dim, key_heads }, n_taps })
}

/// The tensors of a layer, whichever it is.
pub(super) fn layer_tensors(names: &LayerNames<'_>, plan: &ModelPlan, layer: &LayerPlan) -> LayerTensors {
    let mut tensors = layer_tensors_with(names, plan, layer, |attention, tensors| {
        tensors.q_norm = Some(names.vector("attn_q_norm.weight", attention.k_dim));
        tensors.k_norm = Some(names.vector("attn_k_norm.weight", attention.k_dim));
    });
    tensors.feed_forward.set_norm(Some(names.vector("post_attention_norm.weight", plan.n_embd)));
    if let FeedForwardWeights::Experts(experts) = &mut tensors.feed_forward
        && let Some(shared) = &mut experts.shared
    {
        // Without it the shared expert would weigh otherwise than its model was trained with.
        shared.weight = Some(names.vector("ffn_gate_inp_shexp.weight", plan.n_embd));
    }
    tensors
}
