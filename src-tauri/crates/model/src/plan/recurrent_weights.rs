//! What layers with a state multiply with.

use super::convert::Convert;
use super::products::{BranchEnd, optional};

/// The weights of what mixes tokens through a state.
pub(crate) enum RecurrentWeights<M, V> {
    GatedDelta(GatedDeltaWeights<M, V>),
    Mamba2(Mamba2Weights<M, V>),
    ShortConv(ShortConvWeights<M, V>),
}

/// A gated delta net with the norm in front of it.
pub(crate) struct GatedDeltaWeights<M, V> {
    pub(crate) norm: V,
    /// Makes queries, keys and values, in this order.
    pub(crate) qkv: M,
    /// Makes what gates the heads' outputs.
    pub(crate) gate: M,
    /// Makes how much of the state is corrected, and how fast it decays.
    pub(crate) products: GateWeights<M>,
    /// The convolution's, `[n_taps, n_channels]`.
    pub(crate) taps: V,
    /// What is added to the products that make the decay: `[n_v_heads]`.
    pub(crate) bias: V,
    /// What their softplus is multiplied with: `[n_v_heads]`.
    pub(crate) rate: V,
    /// Over each head's output.
    pub(crate) out_norm: V,
    pub(crate) end: BranchEnd<M, V>,
}

/// Mamba-2 with the norm in front of it.
pub(crate) struct Mamba2Weights<M, V> {
    pub(crate) norm: V,
    /// Makes what gates the heads' outputs.
    pub(crate) gate: M,
    /// Makes inputs, Bs and Cs, in this order.
    pub(crate) mixed: M,
    /// Makes how much of the inputs is taken in, `[n_heads, n_embd]`.
    pub(crate) steps: M,
    /// The convolution's, `[n_taps, n_channels]`.
    pub(crate) taps: V,
    /// What is added to the convolution's sums: `[n_channels]`.
    pub(crate) conv_bias: Option<V>,
    /// What is added to the products that make the steps: `[n_heads]`.
    pub(crate) bias: V,
    /// What steps are multiplied with for the decay: `[n_heads]`.
    pub(crate) rate: V,
    /// What of its input a head's output has: `[n_heads]`.
    pub(crate) skip: V,
    /// Over the gated outputs, group by group: `[n_heads · head_dim]`.
    pub(crate) out_norm: V,
    pub(crate) end: BranchEnd<M, V>,
}

/// A short convolution with the norm in front of it.
pub(crate) struct ShortConvWeights<M, V> {
    pub(crate) norm: V,
    /// Makes what gates the input.
    pub(crate) gate_in: M,
    /// Makes what gates the output.
    pub(crate) gate_out: M,
    /// Makes the input.
    pub(crate) input: M,
    /// `[n_taps, n_channels]`
    pub(crate) taps: V,
    pub(crate) end: BranchEnd<M, V>,
}

/// What makes a delta net's gates, `[n_v_heads, n_embd]` each.
pub(crate) enum GateWeights<M> {
    Apart {
        beta: M,
        alpha: M,
    },
    /// In one matrix, those of the heads that share a key side by side.
    ByKeyHead(M),
}

impl<M, V> RecurrentWeights<M, V> {
    /// As [`ModelWeights::convert`].
    ///
    /// [`ModelWeights::convert`]: super::weights::ModelWeights::convert
    pub(crate) fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<RecurrentWeights<C::Matrix, C::Vector>, C::Error> {
        Ok(match self {
            RecurrentWeights::GatedDelta(delta) => RecurrentWeights::GatedDelta(delta.convert(by)?),
            RecurrentWeights::Mamba2(mamba) => RecurrentWeights::Mamba2(mamba.convert(by)?),
            RecurrentWeights::ShortConv(conv) => RecurrentWeights::ShortConv(conv.convert(by)?),
        })
    }

    /// The last product of the branch.
    pub(crate) fn end(&self) -> &BranchEnd<M, V> {
        match self {
            RecurrentWeights::GatedDelta(delta) => &delta.end,
            RecurrentWeights::Mamba2(mamba) => &mamba.end,
            RecurrentWeights::ShortConv(conv) => &conv.end,
        }
    }
}

impl<M, V> GatedDeltaWeights<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<GatedDeltaWeights<C::Matrix, C::Vector>, C::Error> {
        let GatedDeltaWeights { norm, qkv, gate, products, taps, bias, rate, out_norm, end } = self;
        Ok(GatedDeltaWeights {
            norm: by.vector(norm)?,
            qkv: by.matrix(qkv)?,
            gate: by.matrix(gate)?,
            products: match products {
                GateWeights::Apart { beta, alpha } => {
                    GateWeights::Apart { beta: by.matrix(beta)?, alpha: by.matrix(alpha)? }
                }
                GateWeights::ByKeyHead(both) => GateWeights::ByKeyHead(by.matrix(both)?),
            },
            taps: by.vector(taps)?,
            bias: by.vector(bias)?,
            rate: by.vector(rate)?,
            out_norm: by.vector(out_norm)?,
            end: end.convert(by)?,
        })
    }
}

impl<M, V> Mamba2Weights<M, V> {
    fn convert<C: Convert<M, V>>(&self, by: &mut C) -> Result<Mamba2Weights<C::Matrix, C::Vector>, C::Error> {
        let Mamba2Weights { norm, gate, mixed, steps, taps, conv_bias, bias, rate, skip, out_norm, end } =
            self;
        Ok(Mamba2Weights {
            norm: by.vector(norm)?,
            gate: by.matrix(gate)?,
            mixed: by.matrix(mixed)?,
            steps: by.matrix(steps)?,
            taps: by.vector(taps)?,
            conv_bias: optional(conv_bias, by)?,
            bias: by.vector(bias)?,
            rate: by.vector(rate)?,
            skip: by.vector(skip)?,
            out_norm: by.vector(out_norm)?,
            end: end.convert(by)?,
        })
    }
}

impl<M, V> ShortConvWeights<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<ShortConvWeights<C::Matrix, C::Vector>, C::Error> {
        let ShortConvWeights { norm, gate_in, gate_out, input, taps, end } = self;
        Ok(ShortConvWeights {
            norm: by.vector(norm)?,
            gate_in: by.matrix(gate_in)?,
            gate_out: by.matrix(gate_out)?,
            input: by.matrix(input)?,
            taps: by.vector(taps)?,
            end: end.convert(by)?,
        })
    }
}

impl<M> GateWeights<M> {
    /// All of them.
    pub(crate) fn matrices(&self) -> Vec<&M> {
        match self {
            GateWeights::Apart { beta, alpha } => vec![beta, alpha],
            GateWeights::ByKeyHead(both) => vec![both],
        }
    }
}
