//! Mamba-2 by the CPU's kernels.
//!
//! ```text
//! stream ─┬▶ inputs, Bs, Cs ── convolution, SiLU ───────────────────┐
//!         ├▶ steps ── how much is taken in, how much is left ───────┼▶ heads ── gated ── normed group by group ──▶
//!         └▶ gate ──────────────────────────────────────────────────┴────────────┘
//! ```

use kernels::activations::Form;
use kernels::matmul::{Epilogue, Product, matmul_each};
use kernels::ops::{RopeTable, rms_norm_groups, silu_mul};
use kernels::recurrent::conv::{Channels, Conv, Then, convolve};
use kernels::recurrent::mamba2::{ScanInput, prepare, scan};
use kernels::weights::Weights;
use scheduler::RunError;

use super::super::backend::{Buffers, Cpu};
use crate::plan::recurrent::Mamba2Plan;
use crate::plan::recurrent_weights::Mamba2Weights;
use crate::run::backend::Piece;

impl Cpu {
    /// Leave the heads' outputs among the activations, as the branch's last product takes them.
    pub(super) fn run_mamba2(
        &mut self,
        x: &[f32],
        piece: &Piece<'_, Vec<RopeTable>>,
        layer_idx: usize,
        plan: &Mamba2Plan,
        weights: &Mamba2Weights<Weights, Vec<f32>>,
    ) -> Result<(), RunError> {
        let (shape, n) = (plan.shape, piece.tokens.len());
        let (width, inner) = (shape.width(), shape.inner());
        let matrices = [&weights.gate, &weights.mixed, &weights.steps];
        self.enter(&x[self.values(&piece.tokens)], Some(&weights.norm), Form::of(matrices));
        let Cpu { threads, isa, arena, layers, norm_eps, buffers, .. } = self;
        let (isa, state) = (*isa, layers[layer_idx].need_state(layer_idx)?);
        let Buffers { acts, q: inputs, k: mixed, v: products, gate, attended, steps, .. } = buffers;

        let outs = [&mut *gate, &mut *inputs, &mut *products];
        let mut projections = Vec::with_capacity(outs.len());
        for (weights, out) in matrices.into_iter().zip(outs) {
            out.resize(n * weights.n_out(), 0.0);
            projections.push(Product { weights, out, epilogue: Epilogue::Store });
        }
        matmul_each(threads, isa, acts, &mut projections);

        let rows = &piece.chunk.states;
        mixed.resize(n * width, 0.0);
        let conv = Conv { taps: &weights.taps, bias: weights.conv_bias.as_deref(), then: Then::Silu };
        let channels = Channels { values: inputs, width, first: 0 };
        convolve(threads, isa, arena, state, &conv, rows, channels, mixed);

        prepare(threads, isa, products, (&weights.rate, &weights.bias), steps);
        attended.resize(n * inner, 0.0);
        let input = ScanInput { mixed, steps, skip: &weights.skip };
        scan(threads, isa, arena, state, &shape, rows, input, attended);
        silu_mul(threads, isa, gate, attended);
        rms_norm_groups(threads, isa, gate, &weights.out_norm, shape.n_groups, *norm_eps);
        acts.quantize(threads, isa, Form::of([&weights.end.matrix]), gate, inner);
        Ok(())
    }
}
