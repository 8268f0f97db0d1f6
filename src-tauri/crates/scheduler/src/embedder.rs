//! The seam to models that read whole texts and give a vector for each: the counterpart of `runner.rs`.
//!
//! Such a model has no KV pool and continues nothing, so there is nothing to place in memory. What is left to decide is
//! which texts are read together, and how much of that is computed before others have their turn.

use crate::ids::TokenId;
use crate::runner::RunError;

/// Tokens that the texts of a batch have together at most; a text that has more is a batch by itself.
pub const BATCH_TOKENS: usize = 512;

/// What an encoder is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedSpec {
    /// Values of a vector.
    pub width: usize,
    /// Tokens that a text may have, those that open and close it included.
    pub max_tokens: usize,
    /// Tokens of its vocabulary; ids run from 0 to one less.
    pub n_vocab: usize,
    /// How the vectors of a text's tokens become one.
    pub pooling: Pooling,
    /// Equal parts that the work on any batch falls into, one after the other; its layers. At least 1.
    pub n_parts: usize,
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    First,
    /// That of the last one.
    Last,
}

impl Pooling {
    /// The name that is shown: `mean`, `cls` or `last`.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::First => "cls",
            Pooling::Last => "last",
        }
    }
}

/// Vectors, `[n_texts, width]`, in the order of their texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vectors {
    /// Values of a vector.
    pub width: usize,
    /// The values, one vector after the other.
    pub values: Vec<f32>,
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchIs {
    /// There are parts left.
    UnderWay,
    /// Its vectors are in the output.
    Done,
}

/// Reads batches of whole texts, one batch at a time.
///
/// A text's vector depends on its tokens alone, bit for bit: not on the other texts of its batch, on their order, on how
/// many parts are computed at a time, or on the number of threads. The engine drives it from one thread. Two
/// implementations exist: the real one in `model`, and the scripted one with which the engine is tested.
pub trait Embedder: Send {
    /// What it is like.
    fn spec(&self) -> &EmbedSpec;

    /// Begin a batch; what was not finished of the one before is dropped. Computes little or nothing.
    ///
    /// # Errors
    /// There is no text, one is empty or longer than [`EmbedSpec::max_tokens`], a token is beyond the vocabulary, or
    /// there is no memory for the batch.
    fn begin(&mut self, texts: &[&[TokenId]]) -> Result<(), RunError>;

    /// Compute the next `n_parts` parts of the batch, or those that are left. With the last one, its vectors are in
    /// `out`, whose old content is dropped: pooled and projected as the model does it, and **not** brought to a length
    /// of 1. A vector that is not finite is not an error: the caller looks at the values.
    ///
    /// # Errors
    /// No batch is under way, or it failed as a whole and nothing of it may be used.
    fn advance(&mut self, n_parts: usize, out: &mut Vectors) -> Result<BatchIs, RunError>;
}
