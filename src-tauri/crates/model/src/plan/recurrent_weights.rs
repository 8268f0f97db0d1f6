//! What layers with a state multiply with.

use super::convert::Convert;
use super::products::BranchEnd;

/// The weights of what mixes tokens through a state.
pub(crate) enum RecurrentWeights<M, V> {
    GatedDelta(GatedDeltaWeights<M, V>),
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
        })
    }

    /// The last product of the branch.
    pub(crate) fn end(&self) -> &BranchEnd<M, V> {
        match self {
            RecurrentWeights::GatedDelta(delta) => &delta.end,
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

impl<M> GateWeights<M> {
    /// All of them.
    pub(crate) fn matrices(&self) -> Vec<&M> {
        match self {
            GateWeights::Apart { beta, alpha } => vec![beta, alpha],
            GateWeights::ByKeyHead(both) => vec![both],
        }
    }
}
