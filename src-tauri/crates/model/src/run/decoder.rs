//! The forward pass of a [`Batch`]: one decoder for every family, steered by its [`ModelPlan`].
//!
//! ```text
//! pass      some chunks of the step: all of them on a CPU, one on a GPU
//!   layer     chunk by chunk, so that what lies between a layer's products is small while its weights stay near
//! ```
//!
//! Chunks follow each other in token order: a token's keys are in the pool before any later token asks for them, and
//! on a CPU the cut changes no bits.

use std::ops::Range;

use scheduler::{RunError, StepOutput};

use super::backend::{Backend, Head, pieces_of};
use super::batch::{Batch, Chunk};
use super::layer::Layer;
use crate::plan::model_plan::ModelPlan;
use crate::plan::weights::{Ending, ModelWeights};

/// Looks at the residual stream while a model runs.
pub(crate) trait Witness<B: Backend> {
    /// The stream of a pass as it comes to the layer of index `layer_idx`; behind the last layer, as it comes to what
    /// makes the output.
    fn stream(&mut self, backend: &mut B, layer_idx: usize, x: &B::Stream) -> Result<(), RunError>;
}

/// Nobody looks.
pub(crate) struct Unwatched;

impl<B: Backend> Witness<B> for Unwatched {
    fn stream(&mut self, _: &mut B, _: usize, _: &B::Stream) -> Result<(), RunError> {
        Ok(())
    }
}

/// Room for what of a pass is wanted.
struct PassOutput<'a> {
    /// `[n_wanted, n_vocab]`
    logits: &'a mut [f32],
    /// `[n_wanted, n_embd]`
    hidden: &'a mut [f32],
}

/// A model that a backend can run.
pub(super) struct Decoder<B: Backend> {
    pub(super) plan: ModelPlan,
    pub(super) weights: ModelWeights<B::Matrix, B::Vector>,
}

impl<B: Backend> Decoder<B> {
    /// Compute `batch`, whose keys and values go to the backend's pool, and write what of its tokens is wanted to `out`,
    /// which has room for it. `witness` looks on.
    pub(super) fn forward(
        &self,
        backend: &mut B,
        batch: &Batch<'_>,
        out: &mut StepOutput,
        witness: &mut impl Witness<B>,
    ) -> Result<(), RunError> {
        let (mut n_logits, mut n_hidden) = (0, 0);
        for pass in batch.chunks.chunks(B::CHUNKS_PER_PASS) {
            let tokens = pass[0].tokens.start..pass[pass.len() - 1].tokens.end;
            let logits = within(&batch.logits_wanted[n_logits..], &tokens);
            let hidden = within(&batch.hidden_wanted[n_hidden..], &tokens);
            let room = PassOutput {
                logits: &mut out.logits.values[n_logits * self.plan.n_vocab..]
                    [..logits.len() * self.plan.n_vocab],
                hidden: &mut out.hidden.values[n_hidden * self.plan.n_embd..]
                    [..hidden.len() * self.plan.n_embd],
            };
            self.run_pass(backend, pass, (&logits, &hidden), room, witness)?;
            (n_logits, n_hidden) = (n_logits + logits.len(), n_hidden + hidden.len());
        }
        Ok(())
    }

    fn run_pass(
        &self,
        backend: &mut B,
        chunks: &[Chunk<'_>],
        (logits, hidden): (&[usize], &[usize]),
        out: PassOutput<'_>,
        witness: &mut impl Witness<B>,
    ) -> Result<(), RunError> {
        let Decoder { plan, weights } = self;
        let tokens: Vec<&[u32]> = chunks.iter().flat_map(|chunk| &chunk.pieces).copied().collect();
        let mut x = backend.embed(&tokens, &weights.embeddings, plan.embedding_scale)?;
        let prepared = chunks.iter().map(|chunk| backend.prepare(chunk)).collect::<Result<Vec<_>, _>>()?;
        let per_layer = weights.per_layer.as_ref();
        let per_layer =
            per_layer.map(|weights| backend.per_layer_inputs(&x, &tokens, weights)).transpose()?;
        let pieces = pieces_of(chunks, &prepared);
        for (idx, (plan, weights)) in plan.layers.iter().zip(&weights.layers).enumerate() {
            witness.stream(backend, idx, &x)?;
            Layer { idx, plan, weights, per_layer: per_layer.as_ref() }.run(backend, &mut x, &pieces)?;
        }
        witness.stream(backend, plan.layers.len(), &x)?;
        let Ending::Logits(ending) = &weights.ending else {
            return Err(RunError::InvalidStep(format!("a {} model has no logits", plan.architecture)));
        };
        if !logits.is_empty() {
            let matrix = ending.matrix.as_ref().unwrap_or(&weights.embeddings);
            let (scale, softcap) = (plan.logit_scale, plan.logit_softcap);
            let head = Head { norm: &ending.norm, matrix, scale, softcap };
            backend.logits(&x, logits, &head, out.logits)?;
        }
        if !hidden.is_empty() {
            backend.hidden(&x, hidden, &ending.norm, out.hidden)?;
        }
        backend.end_pass(x, prepared)
    }
}

/// The leading of `wanted`, in ascending order, that are below the end of `tokens`; counted from its start.
fn within(wanted: &[usize], tokens: &Range<usize>) -> Vec<usize> {
    let leading = wanted.iter().take_while(|&&token| token < tokens.end);
    leading.map(|token| token - tokens.start).collect()
}
