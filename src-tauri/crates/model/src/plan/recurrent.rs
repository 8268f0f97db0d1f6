//! Layers that keep a state of fixed size instead of keys and values, described.

use kernels::recurrent::delta::DeltaShape;
use kernels::recurrent::mamba2::ScanShape;
use scheduler::LayerState;

/// What mixes tokens through a state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RecurrentPlan {
    /// A gated delta net behind a convolution.
    GatedDelta(GatedDeltaPlan),
    /// Mamba-2.
    Mamba2(Mamba2Plan),
    /// A convolution alone.
    ShortConv(ShortConvPlan),
}

/// A gated delta net: queries, keys and values go through a convolution, and the heads' outputs are normed and gated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatedDeltaPlan {
    /// Its heads.
    pub shape: DeltaShape,
    /// Inputs that the convolution takes together.
    pub n_taps: usize,
}

/// Mamba-2: inputs go through a convolution, and the heads' outputs are gated and normed group by group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mamba2Plan {
    /// Its heads.
    pub shape: ScanShape,
    /// Inputs that the convolution takes together.
    pub n_taps: usize,
}

/// A short convolution of as many channels as the stream is wide, between two gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortConvPlan {
    /// Its channels.
    pub n_channels: usize,
    /// Inputs that it takes together.
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
            RecurrentPlan::Mamba2(Mamba2Plan { shape, n_taps }) => LayerState {
                n_heads: shape.n_heads,
                head_values: shape.head_values(),
                n_columns: n_taps - 1,
                column_values: shape.width(),
            },
            RecurrentPlan::ShortConv(ShortConvPlan { n_channels, n_taps }) => {
                LayerState { n_heads: 0, head_values: 0, n_columns: n_taps - 1, column_values: *n_channels }
            }
        }
    }
}
