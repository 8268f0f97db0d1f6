//! One layer on the chunks of a pass: the order of its operations, for every family and every backend.

use scheduler::RunError;

use super::backend::{Attention, Backend, Latent, Piece, Recurrent};
use crate::plan::model_plan::{FeedForwardPlan, LayerPlan, MixerPlan};
use crate::plan::weights::{FeedForwardWeights, LayerWeights, MixerWeights};

/// A layer of a model.
pub(crate) struct Layer<'a, B: Backend> {
    pub(crate) idx: usize,
    pub(crate) plan: &'a LayerPlan,
    pub(crate) weights: &'a LayerWeights<B::Matrix, B::Vector>,
    /// What the pass's tokens have for each layer.
    pub(crate) per_layer: Option<&'a B::Stream>,
}

impl<B: Backend> Layer<'_, B> {
    /// Take the stream `x` of all `pieces` of a pass through the layer.
    pub(crate) fn run(
        &self,
        backend: &mut B,
        x: &mut B::Stream,
        pieces: &[Piece<'_, B::Prepared>],
    ) -> Result<(), RunError> {
        match (&self.plan.feed_forward, &self.weights.feed_forward) {
            // The tokens of all chunks together, so that each expert finds all of its own.
            (FeedForwardPlan::Experts(plan), FeedForwardWeights::Experts(weights)) => {
                pieces.iter().try_for_each(|piece| self.mix(backend, x, piece))?;
                backend.experts(x, plan, weights)?;
                pieces.iter().try_for_each(|piece| self.finish(backend, x, piece))
            }
            // A chunk after the other, so that what lies between its products stays near. An encoder's may be a long
            // text: what mixes tokens has it whole.
            _ => {
                for piece in pieces {
                    self.mix(backend, x, piece)?;
                    for part in piece.parts(B::CHUNK_TOKENS) {
                        self.feed(backend, x, &part)?;
                        self.finish(backend, x, &part)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Take the tokens of one chunk through what each goes through by itself.
    fn feed(
        &self,
        backend: &mut B,
        x: &mut B::Stream,
        piece: &Piece<'_, B::Prepared>,
    ) -> Result<(), RunError> {
        match (&self.plan.feed_forward, &self.weights.feed_forward) {
            (FeedForwardPlan::Gated(plan), FeedForwardWeights::Gated(weights)) => {
                let branch = backend.gated(x, piece, plan, weights)?;
                backend.join(x, piece, branch, &weights.end)
            }
            (FeedForwardPlan::Ungated(plan), FeedForwardWeights::Ungated(weights)) => {
                let branch = backend.ungated(x, piece, plan, weights)?;
                backend.join(x, piece, branch, &weights.end)
            }
            (FeedForwardPlan::Nothing, FeedForwardWeights::Nothing) => Ok(()),
            _ => Err(RunError::InvalidStep(format!("layer {} has another feed-forward's weights", self.idx))),
        }
    }

    /// Mix the tokens of one chunk with those before them.
    fn mix(
        &self,
        backend: &mut B,
        x: &mut B::Stream,
        piece: &Piece<'_, B::Prepared>,
    ) -> Result<(), RunError> {
        let layer_idx = self.idx;
        let (branch, end) = match (&self.plan.mixer, &self.weights.mixer) {
            (MixerPlan::Softmax(plan), MixerWeights::Softmax(weights)) => {
                (backend.attention(x, piece, &Attention { layer_idx, plan, weights })?, &weights.end)
            }
            (MixerPlan::Latent(plan), MixerWeights::Latent(weights)) => {
                (backend.latent(x, piece, &Latent { layer_idx, plan, weights })?, &weights.end)
            }
            (MixerPlan::Recurrent(plan), MixerWeights::Recurrent(weights)) => {
                (backend.recurrent(x, piece, &Recurrent { layer_idx, plan, weights })?, weights.end())
            }
            (MixerPlan::Nothing, MixerWeights::Nothing) => return Ok(()),
            _ => return Err(RunError::InvalidStep(format!("layer {layer_idx} has another mixer's weights"))),
        };
        backend.join(x, piece, branch, end)?;
        match &self.weights.norms {
            Some(norms) => backend.norm_stream(x, piece, &norms.mixer),
            None => Ok(()),
        }
    }

    /// What comes behind the feed-forward, for one chunk.
    fn finish(
        &self,
        backend: &mut B,
        x: &mut B::Stream,
        piece: &Piece<'_, B::Prepared>,
    ) -> Result<(), RunError> {
        if let Some(norms) = &self.weights.norms {
            backend.norm_stream(x, piece, &norms.feed_forward)?;
        }
        if let (Some(weights), Some(inputs)) = (&self.weights.per_layer, self.per_layer) {
            let branch = backend.per_layer(x, piece, (inputs, self.idx), weights)?;
            backend.join(x, piece, branch, &weights.end)?;
        }
        match self.plan.output_scale {
            1.0 => Ok(()),
            factor => backend.scale(x, piece, factor),
        }
    }
}
