//! One layer on one chunk of tokens: the order of its operations, for every family and every backend.

use scheduler::RunError;

use super::backend::{Attention, Backend, Piece};
use crate::plan::model_plan::{FeedForwardPlan, LayerPlan};
use crate::plan::weights::{FeedForwardWeights, LayerWeights};

/// A layer of a model.
pub(super) struct Layer<'a, B: Backend> {
    pub(super) idx: usize,
    pub(super) plan: &'a LayerPlan,
    pub(super) weights: &'a LayerWeights<B::Matrix, B::Vector>,
}

impl<B: Backend> Layer<'_, B> {
    /// Take the chunk's part of the stream `x` through the layer.
    pub(super) fn run(
        &self,
        backend: &mut B,
        x: &mut B::Stream,
        piece: &Piece<'_, B::Prepared>,
    ) -> Result<(), RunError> {
        let LayerWeights { attention, feed_forward } = self.weights;
        let mixer = Attention { layer_idx: self.idx, plan: &self.plan.attention, weights: attention };
        let branch = backend.attention(x, piece, &mixer)?;
        backend.join(x, piece, branch, &attention.end)?;
        let branch = match (&self.plan.feed_forward, feed_forward) {
            (FeedForwardPlan::Gated(plan), FeedForwardWeights::Gated(weights)) => {
                backend.gated(x, piece, plan, weights)?
            }
        };
        backend.join(x, piece, branch, feed_forward.end())
    }
}
