//! What tokens have for each layer, by the CPU's kernels.

use std::f32::consts::FRAC_1_SQRT_2;

use kernels::activations::{Form, GateUp};
use kernels::matmul::{Epilogue, matmul};
use kernels::ops::{self, RopeTable};
use kernels::weights::Weights;
use scheduler::RunError;

use super::backend::{Buffers, Cpu};
use crate::plan::weights::{PerLayerEmbeddings, PerLayerWeights};
use crate::run::backend::{Backend, Piece};
use crate::run::runner::resize;

impl Cpu {
    /// `[n_tokens, n_layers · width]`: half the variance from the projected and normed stream, half from the tokens.
    pub(super) fn inputs_of_layers(
        &mut self,
        x: &[f32],
        pieces: &[&[u32]],
        weights: &PerLayerEmbeddings<Weights, Vec<f32>>,
    ) -> Result<Vec<f32>, RunError> {
        let PerLayerEmbeddings { embeddings, projection, norm } = weights;
        let (n_embd, n_values) = (self.n_embd, projection.n_out());
        let Cpu { threads, isa, norm_eps, buffers: Buffers { acts, out, .. }, .. } = self;
        let isa = *isa;
        let mut inputs = Vec::new();
        resize(&mut inputs, x.len() / n_embd, n_values)?;
        let chunk = Cpu::CHUNK_TOKENS;
        for (x, inputs) in x.chunks(chunk * n_embd).zip(inputs.chunks_mut(chunk * n_values)) {
            acts.quantize(threads, isa, Form::of([projection]), x, n_embd);
            out.resize(inputs.len(), 0.0);
            matmul(threads, isa, projection, acts, out, Epilogue::Store);
            ops::scale(threads, isa, out, 1.0 / (n_embd as f32).sqrt());
            ops::rms_norm(threads, isa, out, norm, *norm_eps, inputs);
        }
        let (scale, mut of_token) = ((norm.len() as f32).sqrt(), vec![0.0; n_values]);
        for (&token, inputs) in pieces.iter().copied().flatten().zip(inputs.chunks_exact_mut(n_values)) {
            embeddings.embed(token as usize, &mut of_token);
            for (x, of_token) in inputs.iter_mut().zip(&of_token) {
                *x = (*x + of_token * scale) * FRAC_1_SQRT_2;
            }
        }
        Ok(inputs)
    }

    /// Leave a layer's inputs, gated, among the activations, as the branch's last product takes them.
    pub(super) fn gate_inputs(
        &mut self,
        x: &[f32],
        piece: &Piece<'_, Vec<RopeTable>>,
        (inputs, layer_idx): (&[f32], usize),
        weights: &PerLayerWeights<Weights, Vec<f32>>,
    ) {
        let PerLayerWeights { gate: matrix, end } = weights;
        let (n, width) = (piece.tokens.len(), matrix.n_out());
        let n_values = inputs.len() / (x.len() / self.n_embd);
        self.enter(&x[self.values(&piece.tokens)], None, Form::of([matrix]));
        let Cpu { threads, isa, buffers: Buffers { acts, gate, up, .. }, .. } = self;
        gate.resize(n * width, 0.0);
        matmul(threads, *isa, matrix, acts, gate, Epilogue::Store);
        up.clear();
        for token in piece.tokens.clone() {
            up.extend_from_slice(&inputs[token * n_values + layer_idx * width..][..width]);
        }
        acts.gelu_tanh_mul_quantize(threads, *isa, Form::of([&end.matrix]), GateUp { gate, up }, width);
    }
}
