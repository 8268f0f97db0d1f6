//! A GGUF file, opened: its metadata as plain data, its tensors as byte ranges that lie inside the file.
//!
//! The file is untrusted. Every count, length and offset is checked against what is left of the file before
//! anything is allocated for it, so that memory stays within a small multiple of the header's own size.

use std::ops::Range;
use std::path::{Path, PathBuf};

use kernels::ggml::dequantize;

use super::header::{self, Header, TensorInfo};
use super::metadata::Metadata;
use super::model_file::ModelFile;
use crate::error::{Cause, LoadError};

/// What is read at a time where all of a file is read.
const PIECE_BYTES: usize = 1 << 20;

/// What is read of a large tensor before somebody hears of it.
const STEP_BYTES: usize = 64 << 20;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: ModelFile,
    header: Header,
}

impl Gguf {
    /// Open the file at `path` and read its header.
    ///
    /// # Errors
    /// The file cannot be read, is no GGUF of version 2 or 3, contradicts itself, or has a tensor of a type that is
    /// not supported.
    pub fn open(path: &Path) -> Result<Gguf, LoadError> {
        let file = ModelFile::open(path).map_err(|cause| Cause::Unreadable(cause).in_file(path))?;
        let header = header::read(&file).map_err(|cause| cause.in_file(path))?;
        Ok(Gguf { path: path.to_path_buf(), file, header })
    }

    /// The file's path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size.
    pub fn file_bytes(&self) -> u64 {
        self.file.n_bytes()
    }

    /// The file's keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The file's tensors, in its order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.by_name.get(name).map(|&i| &self.header.tensors[i])
    }

    /// The model's name: `general.name`, or the file's name without its ending.
    pub fn name(&self) -> String {
        match self.metadata().find_str("general.name") {
            Ok(Some(name)) if !name.trim().is_empty() => name.trim().to_owned(),
            _ => self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// Values in all tensors.
    pub fn n_params(&self) -> u64 {
        self.tensors().iter().map(|tensor| tensor.n_values() as u64).sum()
    }

    /// BLAKE3 of the whole file: which weights these are, whatever the file is called.
    ///
    /// Reads the file once; callers keep the digest with the file's inode, size and time.
    ///
    /// # Errors
    /// The file cannot be read, or was cut or changed since it was opened.
    pub fn digest(&self) -> Result<[u8; 32], LoadError> {
        let digest = self.digest_of_file().map_err(|cause| cause.in_file(&self.path))?;
        Ok(*digest.as_bytes())
    }

    fn digest_of_file(&self) -> Result<blake3::Hash, Cause> {
        let mut hasher = blake3::Hasher::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < self.file.n_bytes() {
            let n = (self.file.n_bytes() - at).min(PIECE_BYTES as u64) as usize;
            self.file.read(at, &mut piece[..n]).map_err(Cause::Unreadable)?;
            hasher.update(&piece[..n]);
            at += n as u64;
        }
        self.check_unchanged()?;
        Ok(hasher.finalize())
    }

    /// The bytes of `tensor`.
    ///
    /// # Errors
    /// There is no memory for them, the file cannot be read, or was cut since it was opened.
    pub fn read(&self, tensor: &TensorInfo) -> Result<Vec<u8>, LoadError> {
        self.data(tensor).map_err(|cause| cause.in_file(&self.path))
    }

    /// As [`Gguf::read`].
    pub(crate) fn data(&self, tensor: &TensorInfo) -> Result<Vec<u8>, Cause> {
        self.part(tensor, 0..tensor.range.len())
    }

    /// Fill `out` with the bytes of `tensor` from its byte `offset` on.
    pub(crate) fn read_part(&self, tensor: &TensorInfo, offset: usize, out: &mut [u8]) -> Result<(), Cause> {
        self.file.read((tensor.range.start + offset) as u64, out).map_err(Cause::Unreadable)
    }

    /// Hold that the file is what it was when it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<(), Cause> {
        self.file.check_unchanged().map_err(Cause::Unreadable)
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
            return Err(Cause::Malformed(format!(
                "tensor `{name}` has shape {found:?} where {shape:?} is needed"
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
