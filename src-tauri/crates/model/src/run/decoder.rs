//! The forward pass of a [`Batch`]: one decoder for every family, steered by its [`ModelPlan`].
//!
//! ```text
//! pass      some chunks of the step: all of them on a CPU, one on a GPU
//!   layer     chunk by chunk, so that what lies between a layer's products is small while its weights stay near
//! ```
//!
//! Chunks follow each other in token order: a token's keys are in the pool before any later token asks for them, and
//! on a CPU the cut changes no bits.

use scheduler::RunError;

use super::backend::{Backend, Head, Piece};
use super::batch::{Batch, Chunk};
use super::layer::Layer;
use crate::plan::model_plan::ModelPlan;
use crate::plan::weights::ModelWeights;

/// A model that a backend can run.
pub(super) struct Decoder<B: Backend> {
    pub(super) plan: ModelPlan,
    pub(super) weights: ModelWeights<B::Matrix, B::Vector>,
}

impl<B: Backend> Decoder<B> {
    /// Compute `batch`, whose keys and values go to the backend's pool, and write the logits of its wanted tokens,
    /// `[n_wanted, n_vocab]`.
    pub(super) fn forward(
        &self,
        backend: &mut B,
        batch: &Batch<'_>,
        logits: &mut [f32],
    ) -> Result<(), RunError> {
        let mut n_done = 0;
        for pass in batch.chunks.chunks(B::CHUNKS_PER_PASS) {
            let (first, end) = (pass[0].tokens.start, pass[pass.len() - 1].tokens.end);
            let wanted = batch.wanted[n_done..].iter().take_while(|&&token| token < end);
            let wanted: Vec<usize> = wanted.map(|token| token - first).collect();
            let n_values = wanted.len() * self.plan.n_vocab;
            let out = &mut logits[n_done * self.plan.n_vocab..][..n_values];
            self.run_pass(backend, &batch.tokens[first..end], pass, &wanted, out)?;
            n_done += wanted.len();
        }
        Ok(())
    }

    fn run_pass(
        &self,
        backend: &mut B,
        tokens: &[u32],
        chunks: &[Chunk<'_>],
        wanted: &[usize],
        logits: &mut [f32],
    ) -> Result<(), RunError> {
        let Decoder { plan, weights } = self;
        let mut x = backend.embed(tokens, &weights.embeddings, plan.embedding_scale)?;
        let prepared = chunks.iter().map(|chunk| backend.prepare(chunk)).collect::<Result<Vec<_>, _>>()?;
        let first = chunks[0].tokens.start;
        for (idx, (plan, weights)) in plan.layers.iter().zip(&weights.layers).enumerate() {
            let layer = Layer { idx, plan, weights };
            for (chunk, prepared) in chunks.iter().zip(&prepared) {
                let tokens = chunk.tokens.start - first..chunk.tokens.end - first;
                layer.run(backend, &mut x, &Piece { chunk, tokens, prepared })?;
            }
        }
        if !wanted.is_empty() {
            let matrix = weights.output.as_ref().unwrap_or(&weights.embeddings);
            let head = Head { norm: &weights.output_norm, matrix, softcap: plan.logit_softcap };
            backend.logits(&x, wanted, &head, logits)?;
        }
        backend.end_pass(x, prepared)
    }
}
