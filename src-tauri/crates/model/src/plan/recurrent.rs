//! Layers that keep a state of fixed size instead of keys and values, described.

use kernels::recurrent::delta::DeltaShape;
use scheduler::LayerState;

/// What mixes tokens through a state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RecurrentPlan {
    /// A gated delta net behind a convolution.
    GatedDelta(GatedDeltaPlan),
}

/// A gated delta net: queries, keys and values go through a convolution, and the heads' outputs are normed and gated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatedDeltaPlan {
    /// Its heads.
    pub shape: DeltaShape,
    /// Inputs that the convolution takes together.
    pub n_taps: usize,
}

impl RecurrentPlan {
    /// What it has of a sequence in the pool.
    pub(crate) fn state(&self) -> LayerState {
        match self {
            RecurrentPlan::GatedDelta(GatedDeltaPlan { shape, n_taps }) => LayerState {
                n_heads: shape.n_v_heads,
                head_values: shape.head_values(),
                n_columns: n_taps - 1,
                column_values: shape.width(),
            },
        }
    }
}
