//! One layer on the chunks of a pass: the order of its operations, for every family and every backend.

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
    /// Take the stream `x` of all `pieces` of a pass through the layer.
    pub(super) fn run(
        &self,
        backend: &mut B,
        x: &mut B::Stream,
        pieces: &[Piece<'_, B::Prepared>],
    ) -> Result<(), RunError> {
        match (&self.plan.feed_forward, &self.weights.feed_forward) {
            // A chunk after the other, so that what lies between its products stays near.
            (FeedForwardPlan::Gated(plan), FeedForwardWeights::Gated(weights)) => {
                for piece in pieces {
                    self.mix(backend, x, piece)?;
                    let branch = backend.gated(x, piece, plan, weights)?;
                    backend.join(x, piece, branch, &weights.end)?;
                }
                Ok(())
            }
            // The tokens of all chunks together, so that each expert finds all of its own.
            (FeedForwardPlan::Experts(plan), FeedForwardWeights::Experts(weights)) => {
                pieces.iter().try_for_each(|piece| self.mix(backend, x, piece))?;
                backend.experts(x, plan, weights)
            }
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
        let weights = &self.weights.attention;
        let mixer = Attention { layer_idx: self.idx, plan: &self.plan.attention, weights };
        let branch = backend.attention(x, piece, &mixer)?;
        backend.join(x, piece, branch, &weights.end)
    }
}
