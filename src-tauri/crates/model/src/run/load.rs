//! Reads a model's tensors and makes them ready for the arithmetic that multiplies with them.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::file::header::TensorInfo;
use crate::options::LoadProgress;
use crate::plan::tensor_list::{TensorList, TensorPlace};
use crate::plan::weights::{Convert, ModelWeights};

/// Makes a file's tensors ready for one kind of arithmetic.
pub(crate) trait Pack {
    /// A matrix `[n_out, n_in]` to multiply with.
    type Matrix;
    /// A norm's weights.
    type Vector;

    /// The matrix that `stored` is.
    fn matrix(&self, gguf: &Gguf, stored: &StoredMatrix<'_>) -> Result<Self::Matrix, Cause>;

    /// The vector of `values`.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector, String>;
}

/// A matrix `[n_out, n_in]` as a file has it: a tensor, or some rows of one.
pub(crate) struct StoredMatrix<'a> {
    pub(crate) tensor: &'a TensorInfo,
    pub(crate) n_out: usize,
    pub(crate) n_in: usize,
    /// Its bytes among the tensor's.
    pub(crate) bytes: Range<usize>,
}

/// Pack the tensors of `gguf` that `list` names, after all of them have been checked.
pub(crate) fn load<P: Pack>(
    gguf: &Gguf,
    architecture: &str,
    list: &TensorList,
    pack: &P,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<ModelWeights<P::Matrix, P::Vector>, Cause> {
    check(gguf, architecture, list)?;
    let bytes_total = gguf.tensors().iter().map(|tensor| tensor.range.len() as u64).sum();
    let done = LoadProgress { bytes_done: 0, bytes_total };
    let weights = list.weights.convert(&mut Packer { gguf, pack, progress, done })?;
    gguf.check_unchanged()?;
    Ok(weights)
}

/// Holds that `gguf` has the tensors of `list`, in their shapes, and no others: a tensor that nobody reads would mean
/// another computation than ours.
fn check(gguf: &Gguf, architecture: &str, list: &TensorList) -> Result<(), Cause> {
    let places = list.places();
    for TensorPlace { name, shape, .. } in &places {
        gguf.tensor_of(name, shape)?;
    }
    let known = places.iter().map(|place| &place.name).chain(&list.in_plan);
    let known: HashSet<&str> = known.map(String::as_str).collect();
    match gguf.tensors().iter().find(|tensor| !known.contains(tensor.name.as_str())) {
        Some(tensor) => {
            let name = tensor.name.escape_debug();
            Err(Cause::Unsupported(format!("tensor `{name}` has no place in a {architecture} model")))
        }
        None => Ok(()),
    }
}

/// Packs tensor after tensor and says how far it is.
struct Packer<'a, P> {
    gguf: &'a Gguf,
    pack: &'a P,
    progress: &'a mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    done: LoadProgress,
}

impl<P: Pack> Convert<TensorPlace, TensorPlace> for Packer<'_, P> {
    type Matrix = P::Matrix;
    type Vector = P::Vector;
    type Error = Cause;

    fn matrix(&mut self, place: &TensorPlace) -> Result<P::Matrix, Cause> {
        let tensor = self.gguf.tensor_of(&place.name, &place.shape)?;
        // A vector is a matrix of one row.
        let Some((&n_in, n_outs)) = place.shape.split_first() else {
            return Err(Cause::Malformed(format!("tensor `{}` is no matrix", place.name)));
        };
        let rows = place.part.clone().unwrap_or(0..n_outs.iter().product());
        let bytes = self.gguf.bytes_of(tensor, rows.start * n_in..rows.end * n_in)?;
        let n_bytes = bytes.len();
        let stored = StoredMatrix { tensor, n_out: rows.len(), n_in, bytes };
        let packed = self.pack.matrix(self.gguf, &stored)?;
        self.count(n_bytes)?;
        Ok(packed)
    }

    fn vector(&mut self, place: &TensorPlace) -> Result<P::Vector, Cause> {
        let tensor = self.gguf.tensor_of(&place.name, &place.shape)?;
        let values = place.part.clone().unwrap_or(0..tensor.n_values());
        let n_bytes = self.gguf.bytes_of(tensor, values.clone())?.len();
        let values = self.gguf.floats_of(tensor, values)?;
        let packed = self.pack.vector(values).map_err(|error| not_packed(tensor, &error))?;
        self.count(n_bytes)?;
        Ok(packed)
    }
}

impl<P> Packer<'_, P> {
    fn count(&mut self, n_bytes: usize) -> Result<(), Cause> {
        self.done.bytes_done += n_bytes as u64;
        match (self.progress)(self.done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Cause::Cancelled),
        }
    }
}

/// A tensor that the arithmetic cannot have.
pub(crate) fn not_packed(tensor: &TensorInfo, error: &str) -> Cause {
    Cause::Setup(format!("tensor `{}`: {error}", tensor.name))
}
