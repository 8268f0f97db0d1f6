//! What mixes tokens through a state, by the CPU's kernels.

use kernels::activations::{Form, RmsNorm};
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

    /// Put a branch's rows of the stream, normed, among the fine activations.
    ///
    /// Where a query and a key are nearly at right angles, a delta net's head gives little, of a sign that hangs on how they
    /// were rounded, and the norm behind it makes that as large as any output: in 8 bits some tokens' logits were off by a
    /// sixth, in 16 by half of that.
    fn enter_fine(&mut self, x: &[f32], weight: &[f32], form: Form) {
        let Cpu { threads, isa, buffers, norm_eps: eps, .. } = self;
        buffers.fine_acts.rms_norm_quantize(threads, *isa, form, x, RmsNorm { weight, eps: *eps });
    }
}
