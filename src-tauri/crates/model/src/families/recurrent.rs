//! The tensors of layers that have a state.

use kernels::recurrent::delta::DeltaShape;

use super::layer_names::LayerNames;
use crate::plan::recurrent::{GatedDeltaPlan, RecurrentPlan};
use crate::plan::recurrent_weights::{GateWeights, GatedDeltaWeights, RecurrentWeights};
use crate::plan::tensor_list::TensorPlace;

/// The tensors of what mixes tokens through a state.
pub(super) fn recurrent_tensors(
    names: &LayerNames<'_>,
    n_embd: usize,
    plan: &RecurrentPlan,
) -> RecurrentWeights<TensorPlace, TensorPlace> {
    match plan {
        RecurrentPlan::GatedDelta(delta) => RecurrentWeights::GatedDelta(delta_tensors(names, n_embd, delta)),
    }
}

/// The tensors of a delta net.
fn delta_tensors(
    names: &LayerNames<'_>,
    n_embd: usize,
    plan: &GatedDeltaPlan,
) -> GatedDeltaWeights<TensorPlace, TensorPlace> {
    let GatedDeltaPlan { shape, n_taps } = *plan;
    let DeltaShape { n_v_heads, v_dim, .. } = shape;
    let inner = n_v_heads * v_dim;
    const BOTH: &str = "ssm_ba.weight";
    let products = if names.has(BOTH) {
        GateWeights::ByKeyHead(names.matrix(BOTH, n_embd, 2 * n_v_heads))
    } else {
        GateWeights::Apart {
            beta: names.matrix("ssm_beta.weight", n_embd, n_v_heads),
            alpha: names.matrix("ssm_alpha.weight", n_embd, n_v_heads),
        }
    };
    GatedDeltaWeights {
        norm: names.vector("attn_norm.weight", n_embd),
        qkv: names.matrix("attn_qkv.weight", n_embd, shape.width()),
        gate: names.matrix("attn_gate.weight", n_embd, inner),
        products,
        taps: names.taps("ssm_conv1d.weight", n_taps, shape.width()),
        bias: names.vector("ssm_dt.bias", n_v_heads),
        rate: names.vector("ssm_a", n_v_heads),
        out_norm: names.vector("ssm_norm.weight", v_dim),
        end: names.end("ssm_out", inner, n_embd),
    }
}
