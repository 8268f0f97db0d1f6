//! One layer on one chunk of tokens: the order of its operations, for every family and every backend.

use scheduler::RunError;

use super::backend::{Attention, Backend, Latent, Piece};
use crate::plan::model_plan::{FeedForwardPlan, LayerPlan, MixerPlan};
use crate::plan::weights::{FeedForwardWeights, LayerWeights, MixerWeights};

/// A layer of a model.
pub(super) struct Layer<'a, B: Backend> {
    pub(super) idx: usize,
    pub(super) plan: &'a LayerPlan,
    pub(super) weights: &'a LayerWeights<B::Matrix, B::Vector>,
    /// What the pass's tokens have for each layer.
    pub(super) per_layer: Option<&'a B::Stream>,
}

impl<B: Backend> Layer<'_, B> {
    /// Take the chunk's part of the stream `x` through the layer.
    pub(super) fn run(
        &self,
        backend: &mut B,
        x: &mut B::Stream,
        piece: &Piece<'_, B::Prepared>,
    ) -> Result<(), RunError> {
        let LayerWeights { mixer, feed_forward, per_layer } = self.weights;
        let layer_idx = self.idx;
        let branch = match (&self.plan.mixer, mixer) {
            (MixerPlan::Softmax(plan), MixerWeights::Softmax(weights)) => {
                backend.attention(x, piece, &Attention { layer_idx, plan, weights })?
            }
            (MixerPlan::Latent(plan), MixerWeights::Latent(weights)) => {
                backend.latent(x, piece, &Latent { layer_idx, plan, weights })?
            }
            _ => return Err(RunError::InvalidStep(format!("layer {layer_idx} has another mixer's weights"))),
        };
        backend.join(x, piece, branch, mixer.end())?;
        let branch = match (&self.plan.feed_forward, feed_forward) {
            (FeedForwardPlan::Gated(plan), FeedForwardWeights::Gated(weights)) => {
                backend.gated(x, piece, plan, weights)?
            }
        };
        backend.join(x, piece, branch, feed_forward.end())?;
        if let (Some(weights), Some(inputs)) = (per_layer, self.per_layer) {
            let branch = backend.per_layer(x, piece, (inputs, layer_idx), weights)?;
            backend.join(x, piece, branch, &weights.end)?;
        }
        match self.plan.output_scale {
            1.0 => Ok(()),
            factor => backend.scale(x, piece, factor),
        }
    }
}
