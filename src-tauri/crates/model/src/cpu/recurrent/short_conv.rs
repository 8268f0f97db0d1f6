//! Short convolutions by the CPU's kernels.

use kernels::activations::Form;
use kernels::matmul::{Epilogue, Product, matmul_each};
use kernels::ops::{RopeTable, mul};
use kernels::recurrent::conv::{Channels, Conv, Then, convolve};
use kernels::weights::Weights;
use scheduler::RunError;

use super::super::backend::{Buffers, Cpu};
use crate::plan::recurrent::ShortConvPlan;
use crate::plan::recurrent_weights::ShortConvWeights;
use crate::run::backend::Piece;

impl Cpu {
    /// Leave the gated sums among the activations, as the branch's last product takes them.
    pub(super) fn run_short_conv(
        &mut self,
        x: &[f32],
        piece: &Piece<'_, Vec<RopeTable>>,
        layer_idx: usize,
        plan: &ShortConvPlan,
        weights: &ShortConvWeights<Weights, Vec<f32>>,
    ) -> Result<(), RunError> {
        let (n, width) = (piece.tokens.len(), plan.n_channels);
        let matrices = [&weights.input, &weights.gate_in, &weights.gate_out];
        self.enter(&x[self.values(&piece.tokens)], Some(&weights.norm), Form::of(matrices));
        let Cpu { threads, isa, arena, layers, buffers, .. } = self;
        let (isa, state) = (*isa, layers[layer_idx].need_state(layer_idx)?);
        let Buffers { acts, q: input, k: gate_in, v: gate_out, attended, .. } = buffers;

        let outs = [&mut *input, &mut *gate_in, &mut *gate_out];
        let mut products = Vec::with_capacity(outs.len());
        for (weights, out) in matrices.into_iter().zip(outs) {
            out.resize(n * width, 0.0);
            products.push(Product { weights, out, epilogue: Epilogue::Store });
        }
        matmul_each(threads, isa, acts, &mut products);

        mul(threads, isa, input, gate_in);
        attended.resize(n * width, 0.0);
        let conv = Conv { taps: &weights.taps, bias: None, then: Then::Nothing };
        let channels = Channels { values: input, width, first: 0 };
        convolve(threads, isa, arena, state, &conv, &piece.chunk.states, channels, attended);
        mul(threads, isa, attended, gate_out);
        acts.quantize(threads, isa, Form::of([&weights.end.matrix]), attended, width);
        Ok(())
    }
}
