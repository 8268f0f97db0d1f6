//! The tensors of layers that have a state.

use kernels::recurrent::delta::DeltaShape;
use kernels::recurrent::mamba2::ScanShape;

use super::layer_names::LayerNames;
use crate::plan::recurrent::{GatedDeltaPlan, Mamba2Plan, RecurrentPlan, ShortConvPlan};
use crate::plan::recurrent_weights::{
    GateWeights, GatedDeltaWeights, Mamba2Weights, RecurrentWeights, ShortConvWeights,
};
use crate::plan::tensor_list::TensorPlace;

/// The tensors of what mixes tokens through a state.
pub(super) fn recurrent_tensors(
    names: &LayerNames<'_>,
    n_embd: usize,
    plan: &RecurrentPlan,
) -> RecurrentWeights<TensorPlace, TensorPlace> {
    match plan {
        RecurrentPlan::GatedDelta(delta) => RecurrentWeights::GatedDelta(delta_tensors(names, n_embd, delta)),
        RecurrentPlan::Mamba2(mamba) => RecurrentWeights::Mamba2(mamba2_tensors(names, n_embd, mamba)),
        RecurrentPlan::ShortConv(conv) => {
            RecurrentWeights::ShortConv(short_conv_tensors(names, n_embd, conv))
        }
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

/// The tensors of Mamba-2.
fn mamba2_tensors(
    names: &LayerNames<'_>,
    n_embd: usize,
    plan: &Mamba2Plan,
) -> Mamba2Weights<TensorPlace, TensorPlace> {
    let Mamba2Plan { shape, n_taps } = *plan;
    let ScanShape { n_heads, n_groups, .. } = shape;
    let (inner, width) = (shape.inner(), shape.width());
    let [gate, mixed, steps] = names.parts("ssm_in.weight", n_embd, [inner, width, n_heads]);
    Mamba2Weights {
        norm: names.vector("attn_norm.weight", n_embd),
        gate,
        mixed,
        steps,
        taps: names.taps("ssm_conv1d.weight", n_taps, width),
        conv_bias: names.vector_if_there("ssm_conv1d.bias", width),
        bias: names.vector("ssm_dt.bias", n_heads),
        rate: names.table("ssm_a", [1, n_heads]),
        skip: names.table("ssm_d", [1, n_heads]),
        out_norm: names.table("ssm_norm.weight", [inner / n_groups, n_groups]),
        end: names.end("ssm_out", inner, n_embd),
    }
}

/// The tensors of a short convolution.
fn short_conv_tensors(
    names: &LayerNames<'_>,
    n_embd: usize,
    plan: &ShortConvPlan,
) -> ShortConvWeights<TensorPlace, TensorPlace> {
    let ShortConvPlan { n_channels, n_taps } = *plan;
    let [gate_in, gate_out, input] = names.parts("shortconv.in_proj.weight", n_embd, [n_channels; 3]);
    ShortConvWeights {
        norm: names.vector("attn_norm.weight", n_embd),
        gate_in,
        gate_out,
        input,
        taps: names.taps("shortconv.conv.weight", n_taps, n_channels),
        end: names.end("shortconv.out_proj", n_channels, n_embd),
    }
}
