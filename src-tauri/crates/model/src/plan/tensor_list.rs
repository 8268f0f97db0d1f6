//! The tensors that a model's file must have, each in its place: what both backends load by.

use std::convert::Infallible;

use super::weights::{Convert, ModelWeights};

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorPlace {
    /// Its name, as `blk.0.attn_q.weight`.
    pub(crate) name: String,
    /// As GGUF writes it: a matrix is `[n_in, n_out]`.
    pub(crate) shape: Vec<usize>,
}

/// All tensors of a file.
pub(crate) struct TensorList {
    /// What is multiplied with.
    pub(crate) weights: ModelWeights<TensorPlace, TensorPlace>,
    /// Names of what became numbers of the plan.
    pub(crate) in_plan: Vec<String>,
}

impl TensorList {
    /// Every tensor that is multiplied with.
    pub(crate) fn places(&self) -> Vec<TensorPlace> {
        let mut all = Collect(Vec::new());
        let Ok(_) = self.weights.convert(&mut all);
        all.0
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
