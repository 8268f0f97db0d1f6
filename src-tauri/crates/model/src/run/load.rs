//! Reads a model's tensors and makes them ready for the arithmetic that multiplies with them.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

use kernels::ggml::GgmlType;
use kernels::weights::Weights;

use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::file::header::TensorInfo;
use crate::options::LoadProgress;
use crate::plan::convert::Convert;
use crate::plan::tensor_list::{TensorList, TensorPlace, ValueOrder};
use crate::plan::weights::ModelWeights;

/// Makes a file's tensors ready for one kind of arithmetic.
pub(crate) trait Pack {
    /// A matrix `[n_out, n_in]` to multiply with.
    type Matrix;
    /// A norm's weights.
    type Vector;

    /// The matrix that `stored` is. `done` is told how many more of its bytes are ready, all of them in the end, and of a
    /// large one in several steps.
    fn matrix(
        &self,
        gguf: &Gguf,
        stored: &StoredMatrix<'_>,
        done: &mut dyn FnMut(usize) -> Result<(), Cause>,
    ) -> Result<Self::Matrix, Cause>;

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
    let bytes_total = sizes(gguf, list)?.file_bytes;
    let weights = list.weights.convert(&mut Packer::new(gguf, pack, bytes_total, progress))?;
    gguf.check_unchanged()?;
    Ok(weights)
}

/// Holds that `gguf` has the tensors of `list`, in their shapes, and no others: a tensor that nobody reads would mean
/// another computation than ours.
pub(super) fn check(gguf: &Gguf, architecture: &str, list: &TensorList) -> Result<(), Cause> {
    let places = list.places();
    for TensorPlace { name, shape, .. } in &places {
        gguf.tensor_of(name, shape)?;
    }
    let known = places.iter().map(|place| &place.name).chain(&list.in_plan);
    let known: HashSet<&str> = known.map(String::as_str).collect();
    let is_scale = |name: &str| {
        weight_beside(gguf, name).is_some_and(|(weight, _)| known.contains(weight.name.as_str()))
    };
    let is_known = |name: &str| known.contains(name) || is_scale(name) || list.ignores(name);
    match gguf.tensors().iter().find(|tensor| !is_known(&tensor.name)) {
        Some(tensor) => {
            let name = tensor.name.escape_debug();
            Err(Cause::Unsupported(format!("tensor `{name}` has no place in a {architecture} model")))
        }
        None => Ok(()),
    }
}

/// The tensor in NVFP4 whose scale, by its name, the tensor called `name` is, and what that scale is of.
pub(super) fn weight_beside<'a>(gguf: &'a Gguf, name: &str) -> Option<(&'a TensorInfo, ScaleOf)> {
    let (stem, of) = match name.strip_suffix(".scale") {
        Some(stem) => (stem, ScaleOf::Products),
        None => (name.strip_suffix(".input_scale")?, ScaleOf::Inputs),
    };
    let weight = gguf.tensor(&format!("{stem}.weight")).filter(|weight| weight.ty == GgmlType::NVFP4)?;
    Some((weight, of))
}

/// What a scale beside a tensor is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScaleOf {
    /// What is multiplied with the tensor's values.
    Products,
    /// What goes in, which nobody here rounds to four bits.
    Inputs,
}

/// What a product with `tensor` is multiplied by: a file keeps it beside a tensor in NVFP4, whose own scales are too
/// short of range. The scale that it keeps for what goes in is for processors that multiply in four bits.
///
/// # Errors
/// It is not a number of its own, or cannot be read.
pub(crate) fn scale_beside(gguf: &Gguf, stored: &StoredMatrix<'_>) -> Result<f32, Cause> {
    let StoredMatrix { tensor, n_out, ref bytes, .. } = *stored;
    let stem = tensor.name.strip_suffix(".weight").filter(|_| tensor.ty == GgmlType::NVFP4);
    let beside = stem.and_then(|stem| gguf.tensor(&format!("{stem}.scale")));
    let Some(beside) = beside else { return Ok(1.0) };
    if beside.n_values() == 1 {
        return Ok(gguf.floats(&beside.name, 1)?[0]);
    }
    // One for each expert.
    let n_experts = tensor.shape.get(2).copied().unwrap_or(1);
    let first_row = bytes.start / (bytes.len() / n_out);
    Ok(gguf.floats(&beside.name, n_experts)?[first_row / tensor.shape[1]])
}

/// What all that `list` names comes to.
pub(super) fn sizes(gguf: &Gguf, list: &TensorList) -> Result<Sizes, Cause> {
    let mut measure = Measure { gguf, sizes: Sizes::default() };
    list.weights.convert(&mut measure)?;
    Ok(measure.sizes)
}

/// Bytes of weights.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// Read of the file.
    pub(super) file_bytes: u64,
    /// In memory, as the CPU has them.
    pub(super) packed_bytes: u64,
}

/// Adds up what it is led through.
struct Measure<'a> {
    gguf: &'a Gguf,
    sizes: Sizes,
}

impl Measure<'_> {
    fn add(&mut self, file_bytes: usize, packed_bytes: usize) {
        self.sizes.file_bytes = self.sizes.file_bytes.saturating_add(file_bytes as u64);
        self.sizes.packed_bytes = self.sizes.packed_bytes.saturating_add(packed_bytes as u64);
    }
}

impl Convert<TensorPlace, TensorPlace> for Measure<'_> {
    type Matrix = ();
    type Vector = ();
    type Error = Cause;

    fn matrix(&mut self, place: &TensorPlace) -> Result<(), Cause> {
        let StoredMatrix { tensor, n_out, n_in, bytes } = stored_matrix(self.gguf, place)?;
        let packed_bytes = Weights::packed_bytes(tensor.ty, n_out, n_in)
            .ok_or_else(|| not_packed(tensor, &format!("[{n_out}, {n_in}] is not whole blocks")))?;
        self.add(bytes.len(), packed_bytes);
        Ok(())
    }

    fn vector(&mut self, place: &TensorPlace) -> Result<(), Cause> {
        let StoredVector { values, n_bytes, .. } = stored_vector(self.gguf, place)?;
        self.add(n_bytes, values.len().saturating_mul(size_of::<f32>()));
        Ok(())
    }
}

/// The matrix at `place`.
fn stored_matrix<'a>(gguf: &'a Gguf, place: &TensorPlace) -> Result<StoredMatrix<'a>, Cause> {
    let tensor = gguf.tensor_of(&place.name, &place.shape)?;
    // A vector is a matrix of one row.
    let Some((&n_in, n_outs)) = place.shape.split_first() else {
        return Err(Cause::Malformed(format!("tensor `{}` is no matrix", place.name)));
    };
    let rows = place.part.clone().unwrap_or(0..n_outs.iter().product());
    let bytes = gguf.bytes_of(tensor, rows.start * n_in..rows.end * n_in)?;
    Ok(StoredMatrix { tensor, n_out: rows.len(), n_in, bytes })
}

/// A vector as a file has it: a tensor, or some values of one.
struct StoredVector<'a> {
    tensor: &'a TensorInfo,
    values: Range<usize>,
    n_bytes: usize,
}

/// The vector at `place`.
fn stored_vector<'a>(gguf: &'a Gguf, place: &TensorPlace) -> Result<StoredVector<'a>, Cause> {
    let tensor = gguf.tensor_of(&place.name, &place.shape)?;
    let values = place.part.clone().unwrap_or(0..tensor.n_values());
    let n_bytes = gguf.bytes_of(tensor, values.clone())?.len();
    Ok(StoredVector { tensor, values, n_bytes })
}

/// Rows of `width` values, the first of each first.
fn transposed(values: &[f32], width: usize) -> Vec<f32> {
    (0..width).flat_map(|column| values.iter().skip(column).step_by(width)).copied().collect()
}

/// Packs tensor after tensor and says how far it is.
pub(crate) struct Packer<'a, P> {
    gguf: &'a Gguf,
    pack: &'a P,
    progress: Progress<'a>,
}

/// How far it is, and who wants to know.
struct Progress<'a> {
    report: &'a mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    so_far: LoadProgress,
}

impl<'a, P: Pack> Packer<'a, P> {
    /// Of a file that has been checked; `progress` is told how many of `bytes_total` are packed.
    pub(crate) fn new(
        gguf: &'a Gguf,
        pack: &'a P,
        bytes_total: u64,
        progress: &'a mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Packer<'a, P> {
        let so_far = LoadProgress { bytes_done: 0, bytes_total };
        Packer { gguf, pack, progress: Progress { report: progress, so_far } }
    }
}

impl<P: Pack> Convert<TensorPlace, TensorPlace> for Packer<'_, P> {
    type Matrix = P::Matrix;
    type Vector = P::Vector;
    type Error = Cause;

    fn matrix(&mut self, place: &TensorPlace) -> Result<P::Matrix, Cause> {
        let stored = stored_matrix(self.gguf, place)?;
        self.pack.matrix(self.gguf, &stored, &mut |n_bytes| self.progress.add(n_bytes))
    }

    fn vector(&mut self, place: &TensorPlace) -> Result<P::Vector, Cause> {
        let StoredVector { tensor, values, n_bytes } = stored_vector(self.gguf, place)?;
        let values = self.gguf.floats_of(tensor, values)?;
        let values = match place.order {
            ValueOrder::AsStored => values,
            ValueOrder::Transposed => transposed(&values, place.shape[0]),
        };
        let packed = self.pack.vector(values).map_err(|error| not_packed(tensor, &error))?;
        self.progress.add(n_bytes)?;
        Ok(packed)
    }
}

impl Progress<'_> {
    fn add(&mut self, n_bytes: usize) -> Result<(), Cause> {
        self.so_far.bytes_done += n_bytes as u64;
        match (self.report)(self.so_far) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Cause::Cancelled),
        }
    }
}

/// A tensor that the arithmetic cannot have.
pub(crate) fn not_packed(tensor: &TensorInfo, error: &str) -> Cause {
    Cause::Setup(format!("tensor `{}`: {error}", tensor.name))
}
