//! What mixes tokens through a state, by the CPU's kernels.

use kernels::ops::RopeTable;
use kernels::weights::Weights;
use scheduler::RunError;

use super::backend::Cpu;
use crate::plan::recurrent::RecurrentPlan;
use crate::plan::recurrent_weights::RecurrentWeights;
use crate::run::backend::{Piece, Recurrent};

mod delta;
mod mamba2;
mod short_conv;

impl Cpu {
    /// Leave what comes of the chunk's tokens among the activations, as the branch's last product takes it.
    pub(super) fn run_recurrent(
        &mut self,
        x: &[f32],
        piece: &Piece<'_, Vec<RopeTable>>,
        layer: &Recurrent<'_, Weights, Vec<f32>>,
    ) -> Result<(), RunError> {
        let Recurrent { layer_idx, plan, weights } = *layer;
        match (plan, weights) {
            (RecurrentPlan::GatedDelta(plan), RecurrentWeights::GatedDelta(weights)) => {
                self.run_delta(x, piece, layer_idx, plan, weights)
            }
            (RecurrentPlan::Mamba2(plan), RecurrentWeights::Mamba2(weights)) => {
                self.run_mamba2(x, piece, layer_idx, plan, weights)
            }
            (RecurrentPlan::ShortConv(plan), RecurrentWeights::ShortConv(weights)) => {
                self.run_short_conv(x, piece, layer_idx, plan, weights)
            }
            _ => Err(RunError::InvalidStep(format!("layer {layer_idx} has another state's weights"))),
        }
    }
}
