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
    /// Slow pairs turn slower still.
    pub yarn: Option<YarnPlan>,
    /// What turns is multiplied by this.
    pub magnitude: f32,
    /// Each pair's frequency is divided by its factor (Llama 3 scaling); empty = all 1.
    pub factors: Vec<f32>,
    /// Other factors for long contexts (LongRoPE). [`ModelPlan::in_context`] leaves one set, for all positions.
    ///
    /// [`ModelPlan::in_context`]: super::model_plan::ModelPlan::in_context
    pub long: Option<LongFactors>,
}

/// YaRN: pairs that turn often are left as they are, seldom turning ones are stretched, those between them in part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct YarnPlan {
    /// Seldom turning pairs turn by so much less.
    pub factor: f32,
    /// Positions that the frequencies were trained on.
    pub original_context: usize,
    /// What turns more often than this over those positions turns often.
    pub beta_fast: f32,
    /// What turns less often than this turns seldom.
    pub beta_slow: f32,
    /// How much of their speed often turning pairs keep: 1 is all of it.
    pub kept: f32,
}

/// What pairs are divided by where the context is long.
#[derive(Debug, Clone, PartialEq)]
pub struct LongFactors {
    /// The longest context that is not long.
    pub original_context: usize,
    /// As [`RopePlan::factors`].
    pub factors: Vec<f32>,
}

/// Which of two sets of factors turns a model (LongRoPE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeFactors {
    /// The one for contexts up to the original one.
    Short,
    /// The one for longer contexts.
    Long,
}

impl RopeFactors {
    /// The name that a fingerprint has it by.
    pub fn name(self) -> &'static str {
        match self {
            RopeFactors::Short => "short rope factors",
            RopeFactors::Long => "long rope factors",
        }
    }
}

impl RopePlan {
    /// A rotation that nothing scales.
    pub fn plain(pairs: RopePairs, n_rot: usize, base: f32) -> RopePlan {
        RopePlan {
            pairs,
            n_rot,
            base,
            position_scale: 1.0,
            yarn: None,
            magnitude: 1.0,
            factors: Vec::new(),
            long: None,
        }
    }
}

impl YarnPlan {
    /// What YaRN multiplies turned values by, so that scores over more positions stay as sharp: for queries and keys
    /// `0.1 · multiplier · ln(factor) + 1` (Peng et al. 2023, "YaRN", section 3.4, where the multiplier is 1).
    pub fn magnitude(factor: f32, multiplier: f32) -> f32 {
        if factor <= 1.0 { 1.0 } else { 0.1 * multiplier * factor.ln() + 1.0 }
    }
}
