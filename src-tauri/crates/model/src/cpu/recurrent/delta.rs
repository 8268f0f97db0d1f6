//! Gated delta nets by the CPU's kernels.
//!
//! ```text
//! stream ─┬▶ queries, keys, values ── convolution, SiLU ── queries and keys of unit length ─┐
//!         ├▶ beta, alpha ── how much is corrected, how much is left ────────────────────────┼▶ heads ── normed ── gated ──▶
//!         └▶ gate ──────────────────────────────────────────────────────────────────────────┴───────────────────┘
//! ```

use kernels::activations::Form;
use kernels::matmul::{Epilogue, Product, matmul_each};
use kernels::ops::{RopeTable, gated_rms_norm};
use kernels::recurrent::conv::{Channels, Conv, Then, convolve};
use kernels::recurrent::delta::{GateInput, GateProducts, gated_delta, prepare};
use kernels::weights::Weights;
use scheduler::RunError;

use super::super::backend::{Buffers, Cpu};
use crate::plan::recurrent::GatedDeltaPlan;
use crate::plan::recurrent_weights::{GateWeights, GatedDeltaWeights};
use crate::run::backend::Piece;

impl Cpu {
    /// Leave the heads' outputs among the activations, as the branch's last product takes them.
    pub(super) fn run_delta(
        &mut self,
        x: &[f32],
        piece: &Piece<'_, Vec<RopeTable>>,
        layer_idx: usize,
        plan: &GatedDeltaPlan,
        weights: &GatedDeltaWeights<Weights, Vec<f32>>,
    ) -> Result<(), RunError> {
        let (shape, n) = (plan.shape, piece.tokens.len());
        let (width, out_width) = (shape.width(), shape.n_v_heads * shape.v_dim);
        let matrices = || [&weights.qkv, &weights.gate].into_iter().chain(weights.products.matrices());
        self.enter_fine(&x[self.values(&piece.tokens)], &weights.norm, Form::of(matrices()));
        let Cpu { threads, isa, arena, layers, norm_eps, buffers, .. } = self;
        let (isa, state) = (*isa, layers[layer_idx].need_state(layer_idx)?);
        let Buffers { acts, fine_acts, q: qkv, k: mixed, v: alpha, up: beta, gate, attended, gates, .. } =
            buffers;

        for (out, matrix) in [&mut *qkv, &mut *gate, &mut *beta, &mut *alpha].into_iter().zip(matrices()) {
            out.resize(n * matrix.n_out(), 0.0);
        }
        let outs = [&mut *qkv, &mut *gate, &mut *beta, &mut *alpha];
        let mut products = Vec::with_capacity(outs.len());
        for (weights, out) in matrices().zip(outs) {
            products.push(Product { weights, out, epilogue: Epilogue::Store });
        }
        matmul_each(threads, isa, fine_acts, &mut products);

        let rows = &piece.chunk.states;
        mixed.resize(n * width, 0.0);
        let conv = Conv { taps: &weights.taps, bias: None, then: Then::Silu };
        let channels = Channels { values: qkv, width, first: 0 };
        convolve(threads, isa, arena, state, &conv, rows, channels, mixed);

        let products = match weights.products {
            GateWeights::Apart { .. } => GateProducts::Apart { beta, alpha },
            GateWeights::ByKeyHead(_) => GateProducts::ByKeyHead(beta),
        };
        let input = GateInput { products, rate: &weights.rate, bias: &weights.bias };
        prepare(threads, isa, &shape, *norm_eps, mixed, input, gates);

        attended.resize(n * out_width, 0.0);
        gated_delta(threads, isa, arena, state, &shape, rows, (mixed, gates), attended);
        gated_rms_norm(threads, isa, attended, &weights.out_norm, *norm_eps, gate);
        acts.quantize(threads, isa, Form::of([&weights.end.matrix]), attended, out_width);
        Ok(())
    }
}
