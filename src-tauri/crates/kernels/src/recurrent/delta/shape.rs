//! The heads of a delta net.

use crate::simd::LANES;

/// The heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaShape {
    /// Heads of queries and keys.
    pub n_k_heads: usize,
    /// Heads of values, and of the state; a multiple.
    pub n_v_heads: usize,
    /// Values of a query and of a key.
    pub k_dim: usize,
    /// Values of a value, whole lanes: see [`DeltaShape::V_DIM_UNIT`].
    pub v_dim: usize,
    /// Which keys a head of values has.
    pub key_heads: KeyHeads,
}

/// Which of `n_k_heads` a head of `n_v_heads` has its query and key from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHeads {
    /// Head h has h mod n_k_heads.
    InTurn,
    /// Head h has h div (n_v_heads / n_k_heads).
    Neighbours,
}

impl DeltaShape {
    /// `v_dim` is a multiple of this.
    pub const V_DIM_UNIT: usize = LANES;

    /// Values of a head's state.
    pub fn head_values(&self) -> usize {
        self.k_dim * self.v_dim
    }

    /// Values of a token's queries, keys and values, in this order: the channels of the convolution before.
    pub fn width(&self) -> usize {
        2 * self.n_k_heads * self.k_dim + self.n_v_heads * self.v_dim
    }

    pub(super) fn check(&self) {
        let DeltaShape { n_k_heads, n_v_heads, k_dim, v_dim, .. } = *self;
        assert!(
            n_k_heads > 0 && n_v_heads.is_multiple_of(n_k_heads),
            "{n_v_heads} heads on {n_k_heads} keys"
        );
        assert!(k_dim > 0 && v_dim > 0 && v_dim.is_multiple_of(LANES), "keys of {k_dim}, values of {v_dim}");
    }

    pub(super) fn key_head(&self, head: usize) -> usize {
        match self.key_heads {
            KeyHeads::InTurn => head % self.n_k_heads,
            KeyHeads::Neighbours => head / (self.n_v_heads / self.n_k_heads),
        }
    }
}
