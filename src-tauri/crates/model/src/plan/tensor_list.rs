//! The tensors that a model's file must have, each in its place: what both backends load by.

use std::convert::Infallible;
use std::ops::Range;

use super::convert::Convert;
use super::weights::ModelWeights;

/// A tensor of a file, or some rows of one: fused projections and experts are several matrices in one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorPlace {
    /// Its name, as `blk.0.attn_q.weight`.
    pub(crate) name: String,
    /// Of the whole tensor, as GGUF writes it: a matrix is `[n_in, n_out]`, one for each expert `[n_in, n_out, n_experts]`.
    pub(crate) shape: Vec<usize>,
    /// The part that is meant, where it is not all: rows of a matrix, counted through all experts; values of a vector.
    pub(crate) part: Option<Range<usize>>,
    /// How a vector's values are wanted.
    pub(crate) order: ValueOrder,
}

/// The order of a vector's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueOrder {
    /// That of the file.
    AsStored,
    /// Of a whole table `[n, m]` the first of each of the m rows, then the second of each, and so on.
    Transposed,
}

/// All tensors of a file.
pub(crate) struct TensorList {
    /// What is multiplied with.
    pub(crate) weights: ModelWeights<TensorPlace, TensorPlace>,
    /// Names of what became numbers of the plan.
    pub(crate) in_plan: Vec<String>,
    /// Blocks whose tensors are not read.
    pub(crate) ignored_blocks: Range<usize>,
}

impl TensorList {
    /// Every tensor that is multiplied with.
    pub(crate) fn places(&self) -> Vec<TensorPlace> {
        let mut all = Collect(Vec::new());
        let Ok(_) = self.weights.convert(&mut all);
        all.0
    }

    /// Whether the tensor called `name` is one of a block that is not read.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        let block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        block
            .and_then(|(block, _)| block.parse().ok())
            .is_some_and(|block| self.ignored_blocks.contains(&block))
    }
}

/// Puts down the places that it is led through.
struct Collect(Vec<TensorPlace>);

impl Convert<TensorPlace, TensorPlace> for Collect {
    type Matrix = ();
    type Vector = ();
    type Error = Infallible;

    fn matrix(&mut self, place: &TensorPlace) -> Result<(), Infallible> {
        self.0.push(place.clone());
        Ok(())
    }

    fn vector(&mut self, place: &TensorPlace) -> Result<(), Infallible> {
        self.matrix(place)
    }
}
