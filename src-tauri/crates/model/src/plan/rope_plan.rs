//! How queries and keys turn with their position.

/// Which values of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// 2i and 2i + 1, as `llama` files are permuted.
    Interleaved,
    /// i and i + half, "neox".
    SplitHalf,
}

/// How fast the pairs of a head turn with the position.
#[derive(Debug, Clone, PartialEq)]
pub struct RopePlan {
    /// How the pairs lie in a head.
    pub pairs: RopePairs,
    /// Values of a head that turn, from its start.
    pub n_rot: usize,
    /// Pair i turns by `base^(-2i / n_rot)` a position.
    pub base: f32,
    /// Positions are multiplied by this first (linear scaling; 1 = none).
    pub position_scale: f32,
    /// Each pair's frequency is divided by its factor (Llama 3 scaling); empty = all 1.
    pub factors: Vec<f32>,
}
