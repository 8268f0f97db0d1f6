//! A GGUF file, opened: its metadata as plain data, its tensors as byte ranges that lie inside the file.
//!
//! The file is untrusted. Every count, length and offset is checked against what is left of the file before
//! anything is allocated for it, so that memory stays within a small multiple of the header's own size.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use kernels::ggml::{GgmlType, dequantize};

use crate::error::{Cause, LoadError};
use crate::header;
use crate::metadata::Metadata;
use crate::mmap::MappedFile;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: MappedFile,
    header: Header,
}

/// What stands in front of a file's tensor data.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) by_name: HashMap<String, usize>,
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, as `blk.0.attn_q.weight`.
    pub name: String,
    /// Lengths of its dimensions, the fastest first: a matrix is `[n_in, n_out]`.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub ty: GgmlType,
    /// Where its bytes lie in the file.
    pub range: Range<usize>,
}

impl Gguf {
    /// Open the file at `path` and read its header.
    ///
    /// # Errors
    /// The file cannot be read, is no GGUF of version 2 or 3, contradicts itself, or has a tensor of a type that is
    /// not supported.
    pub fn open(path: &Path) -> Result<Gguf, LoadError> {
        let file = MappedFile::open(path)
            .map_err(|cause| LoadError::Unreadable { path: path.to_path_buf(), cause })?;
        let header = header::parse(file.bytes()).map_err(|cause| cause.in_file(path))?;
        Ok(Gguf { path: path.to_path_buf(), file, header })
    }

    /// The file's path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size.
    pub fn file_bytes(&self) -> u64 {
        self.file.bytes().len() as u64
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
    pub fn digest(&self) -> [u8; 32] {
        const PIECE: usize = 16 << 20;
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        for piece in self.file.bytes().chunks(PIECE) {
            hasher.update(piece);
            self.file.release(at..at + piece.len());
            at += piece.len();
        }
        *hasher.finalize().as_bytes()
    }

    /// The bytes of `tensor`.
    ///
    /// # Panics
    /// May panic when `tensor` is not one of this file's.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        &self.file.bytes()[tensor.range.clone()]
    }

    /// Let the system drop the pages of `tensor`.
    pub(crate) fn release(&self, tensor: &TensorInfo) {
        self.file.release(tensor.range.clone());
    }

    /// The values of the vector called `name`, which must have `n_values`.
    pub(crate) fn floats(&self, name: &str, n_values: usize) -> Result<Vec<f32>, Cause> {
        let tensor = self.tensor_of(name, &[n_values])?;
        let mut values = vec![0.0; n_values];
        dequantize(tensor.ty, self.data(tensor), &mut values);
        Ok(values)
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

impl TensorInfo {
    /// How many values it has.
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }
}
