//! A GGUF file, opened: its metadata as plain data, its tensors as byte ranges that lie inside the file.
//!
//! The file is untrusted. Every count, length and offset is checked against what is left of the file before
//! anything is allocated for it, so that memory stays within a small multiple of the header's own size.

use std::io::Error;
use std::ops::Range;
use std::path::Path;

use kernels::ggml::dequantize;

use super::header::{Header, TensorInfo, UnknownTensor};
use super::metadata::Metadata;
use super::part_name::PartName;
use super::parts::{self, ModelPart};
use crate::error::{Cause, LoadError};

/// What is read of a large tensor before somebody hears of it.
const STEP_BYTES: usize = 64 << 20;

/// An open GGUF file, or the parts of a model that was cut into several.
#[derive(Debug)]
pub struct Gguf {
    /// At least one; the first is the one that was named.
    parts: Vec<ModelPart>,
    header: Header,
}

impl Gguf {
    /// Open the file at `path` and read its header; where it is the first part of a model, the others beside it too.
    ///
    /// # Errors
    /// The file cannot be read, is no GGUF of version 2 or 3, contradicts itself, or has a tensor of a type that is
    /// not supported. It is a part of a model, and not the first, or one of the others is missing, is of another model
    /// or has the name of another part. The path in the error is that of the part at fault.
    pub fn open(path: &Path) -> Result<Gguf, LoadError> {
        let gguf = Gguf::open_to_describe(path)?;
        match gguf.refuse_unknown() {
            Ok(()) => Ok(gguf),
            Err(cause) => Err(cause.in_file(path)),
        }
    }

    /// As [`Gguf::open`], also of a file with tensors of unknown types: there is something to say of it, although it
    /// cannot be run.
    ///
    /// # Errors
    /// As [`Gguf::open`], but for those types.
    pub fn open_to_describe(path: &Path) -> Result<Gguf, LoadError> {
        let (parts, header) = parts::open(path)?;
        Ok(Gguf { parts, header })
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        self.parts[0].path()
    }

    /// The files that the model is in, mostly one.
    pub fn parts(&self) -> &[ModelPart] {
        &self.parts
    }

    /// The size of all files.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().map(ModelPart::n_bytes).sum()
    }

    /// The file's keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The file's tensors, in its order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// Its tensors of types that are not known here; none in a file that [`Gguf::open`] has opened.
    pub fn unknown_tensors(&self) -> &[UnknownTensor] {
        &self.header.unknown
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.by_name.get(name).map(|&i| &self.header.tensors[i])
    }

    /// Refuse tensors of which nothing can be read.
    pub(crate) fn refuse_unknown(&self) -> Result<(), Cause> {
        self.header.refuse_unknown()
    }

    /// The model's name: `general.name`, or the file's name without its ending and the number of the part.
    pub fn name(&self) -> String {
        match self.metadata().find_str("general.name") {
            Ok(Some(name)) if !name.trim().is_empty() => name.trim().to_owned(),
            _ => match PartName::of(self.path()) {
                Some(part) => part.model(),
                None => self.path().file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            },
        }
    }

    /// Values in all tensors.
    pub fn n_params(&self) -> u64 {
        self.tensors().iter().map(|tensor| tensor.n_values() as u64).sum()
    }

    /// Which weights these are, whatever the files are called: see [`Gguf::digest_of`].
    ///
    /// Reads all files once.
    ///
    /// # Errors
    /// A file cannot be read, or was cut or changed since it was opened.
    pub fn digest(&self) -> Result<[u8; 32], LoadError> {
        let digests: Vec<[u8; 32]> = self.parts.iter().map(ModelPart::digest).collect::<Result<_, _>>()?;
        Ok(Gguf::digest_of(&digests))
    }

    /// The digest of a model whose files have these digests: a single file's own, or one of all parts' in their order.
    pub fn digest_of(parts: &[[u8; 32]]) -> [u8; 32] {
        match parts {
            [whole] => *whole,
            parts => {
                let mut hasher = blake3::Hasher::new_derive_key("samovar split model 1");
                hasher.update(parts.as_flattened());
                *hasher.finalize().as_bytes()
            }
        }
    }

    /// The bytes of `tensor`.
    ///
    /// # Errors
    /// There is no memory for them, the file cannot be read, or was cut since it was opened.
    pub fn read(&self, tensor: &TensorInfo) -> Result<Vec<u8>, LoadError> {
        self.data(tensor).map_err(|cause| cause.in_file(self.path()))
    }

    /// As [`Gguf::read`].
    pub(crate) fn data(&self, tensor: &TensorInfo) -> Result<Vec<u8>, Cause> {
        self.part(tensor, 0..tensor.range.len())
    }

    /// Fill `out` with the bytes of `tensor` from its byte `offset` on.
    pub(crate) fn read_part(&self, tensor: &TensorInfo, offset: usize, out: &mut [u8]) -> Result<(), Cause> {
        let read = self.parts[tensor.part_idx].read((tensor.range.start + offset) as u64, out);
        read.map_err(|error| Cause::Unreadable(self.in_part(tensor.part_idx, error)))
    }

    /// Hold that the files are what they were when they were opened.
    pub(crate) fn check_unchanged(&self) -> Result<(), Cause> {
        let mut parts = self.parts.iter().enumerate();
        let checked = parts
            .try_for_each(|(idx, part)| part.check_unchanged().map_err(|error| self.in_part(idx, error)));
        checked.map_err(Cause::Unreadable)
    }

    /// An error of a part, with its name where the model's path is another's.
    fn in_part(&self, part_idx: usize, error: Error) -> Error {
        if part_idx == 0 {
            return error;
        }
        Error::new(error.kind(), format!("{}: {error}", self.name_of_part(part_idx)))
    }

    fn name_of_part(&self, part_idx: usize) -> String {
        let name = self.parts[part_idx].path().file_name().unwrap_or_default().to_string_lossy();
        format!("part {} of {}, {name}", part_idx + 1, self.parts.len())
    }

    /// The values of the vector called `name`, which must have `n_values`.
    pub(crate) fn floats(&self, name: &str, n_values: usize) -> Result<Vec<f32>, Cause> {
        self.floats_of(self.tensor_of(name, &[n_values])?, 0..n_values)
    }

    /// The values of `tensor` with the indices `values`, which it has.
    pub(crate) fn floats_of(&self, tensor: &TensorInfo, values: Range<usize>) -> Result<Vec<f32>, Cause> {
        let bytes = self.part(tensor, self.bytes_of(tensor, values.clone())?)?;
        let mut floats = room(values.len())?;
        dequantize(tensor.ty, &bytes, &mut floats);
        Ok(floats)
    }

    /// Where the bytes of `values` stand among those of `tensor`, which has so many values.
    pub(crate) fn bytes_of(&self, tensor: &TensorInfo, values: Range<usize>) -> Result<Range<usize>, Cause> {
        let at = |value: usize| tensor.ty.bytes_of(value);
        let range = at(values.start).zip(at(values.end)).map(|(start, end)| start..end);
        range.ok_or_else(|| {
            let (name, ty) = (&tensor.name, tensor.ty.name());
            Cause::Unsupported(format!("tensor `{name}` is cut inside a block of {ty}"))
        })
    }

    /// Those `bytes` of `tensor`.
    pub(crate) fn part(&self, tensor: &TensorInfo, bytes: Range<usize>) -> Result<Vec<u8>, Cause> {
        self.part_by_steps(tensor, bytes, &mut |_| Ok(()))
    }

    /// As [`Gguf::part`]; `done` is told after each step how many more bytes there are.
    pub(crate) fn part_by_steps(
        &self,
        tensor: &TensorInfo,
        bytes: Range<usize>,
        done: &mut dyn FnMut(usize) -> Result<(), Cause>,
    ) -> Result<Vec<u8>, Cause> {
        let mut part = room(bytes.len())?;
        for (step, out) in part.chunks_mut(STEP_BYTES).enumerate() {
            self.read_part(tensor, bytes.start + step * STEP_BYTES, out)?;
            done(out.len())?;
        }
        Ok(part)
    }

    /// The tensor called `name`, which must have `shape`.
    pub(crate) fn tensor_of(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo, Cause> {
        let tensor =
            self.tensor(name).ok_or_else(|| Cause::Malformed(format!("tensor `{name}` is missing")))?;
        if tensor.shape != shape {
            let found = &tensor.shape;
            let place = match self.parts.len() {
                1 => String::new(),
                _ => format!(" ({})", self.name_of_part(tensor.part_idx)),
            };
            return Err(Cause::Malformed(format!(
                "tensor `{name}` has shape {found:?} where {shape:?} is needed{place}"
            )));
        }
        Ok(tensor)
    }
}

/// `n` zeros. A file with holes may claim more than there is memory for.
fn room<T: Copy + Default>(n: usize) -> Result<Vec<T>, Cause> {
    let mut values = Vec::new();
    values.try_reserve_exact(n).map_err(|_| Cause::Setup(format!("no memory for a tensor of {n} values")))?;
    values.resize(n, T::default());
    Ok(values)
}
