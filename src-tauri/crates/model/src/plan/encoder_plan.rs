//! What an encoder has beside its layers: it reads whole texts and gives one vector for each.

use scheduler::Pooling;

/// How a text's vector comes of its tokens'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderPlan {
    /// How the vectors of tokens become one.
    pub pooling: Pooling,
    /// What that one is led through then, one after the other.
    pub projections: Vec<ProjectionPlan>,
}

/// A product with the pooled vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectionPlan {
    /// The name of its tensor, without the ending.
    pub name: &'static str,
    /// Values that it takes.
    pub n_in: usize,
    /// Values that it gives.
    pub n_out: usize,
}
