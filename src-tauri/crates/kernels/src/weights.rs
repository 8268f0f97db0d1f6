//! A weight matrix in the packed form that the kernels stream through.
//!
//! 32 output rows make a **tile**; a tile's columns follow each other in memory, then the next tile. The unit
//! is the **sub-block**, 32 rows × 32 columns (1 column for float types), whose bytes stand in the order in
//! which a kernel loads them: reading is one forward stream.
//!
//! ```text
//! tile 0: rows 0..32                                       tile 1: rows 32..64
//! [head][sub k 0..32][sub k 32..64]..[head][sub]..          [head][sub]..
//!    └ K-quants only, one per 256 columns
//!
//! a sub-block of Q5_1, 768 bytes = 32 × the file's 24:
//! ┌──────────────┬──────────────┬────────────────────┬──────────────────────────────────────────┐
//! │ d f16 × 32   │ m f16 × 32   │ high bits 2 × 64 B │ nibbles 8 × 64 B                         │
//! └──────────────┴──────────────┴────────────────────┴──────────────────────────────────────────┘
//!   nibble line (j, v), j < 4, v < 2: rows 16v..16v+16, 4 bytes each; in byte i of a row's word
//!        the low nibble is column 4j + i, the high nibble column 16 + 4j + i  ("words" j and j + 4)
//!   high-bit line v: byte 4r + i belongs to row 16v + r; its bit w is the fifth bit of word w, byte i
//!   Q6_K: two bits in lines (p, v), p < 2: bits 2(w − 4p) of words 4p..4p + 4
//!   Q8_0: lines (w, v), w < 8: column 4w + i, stored with the sign bit flipped (q + 128)
//!   Q4_K, Q5_K: head d f16 × 32, dmin f16 × 32; sub sc u8 × 32, mn u8 × 32 instead of d, m
//!   Q6_K, Q3_K: head d f16 × 32; sub sc i8 × 32 for columns 0..16, then for 16..32
//!   Q2_K: head d, dmin; sub bytes of (sc, mn) × 32 for columns 0..16, then for 16..32
//!   Q2_K, Q3_K, TQ2_0: two bits in lines (p, v) instead of nibbles, as those of Q6_K; Q3_K's third bit as Q5_1's fifth
//!   IQ4_NL as Q4_0; IQ4_XS: head d, sub sc i8 × 32; MXFP4: sub e u8 × 32; TQ2_0: head d
//!   NVFP4: sub sc u8 × 32 for columns 0..16, then for 16..32
//!   IQ3_*, IQ2_*, IQ1_*, TQ1_0: the file's blocks, that of row 0, that of row 1, ..; nothing else is as small
//!   F16, BF16, F32: the 32 rows' values of one column
//! ```
//!
//! One line feeds one 512-bit register (two 256-bit, four 128-bit ones), and four bytes of a row are what a
//! dot product instruction consumes, so all instruction sets share the layout. Rows beyond `n_out` are zero.

mod expand;
mod layout;
mod memory;
mod pack;
mod unpack;

use std::convert::Infallible;
use std::fmt;

use crate::ggml::GgmlType;
use crate::threads::Threads;

use memory::WeightBytes;

pub(crate) use expand::{EXPANDED_INTEGERS, EXPANDED_SIGNS, Expanded, Signs, unit};
pub(crate) use layout::{Coding, Layout, Scales, TILE_ROWS};
pub use memory::allocated_bytes;
pub(crate) use unpack::{E4M3_HALF, SubBlock};

/// A matrix of shape `[n_out, n_in]`, packed. It multiplies rows of `n_in` values to rows of `n_out`.
pub struct Weights {
    ty: GgmlType,
    n_out: usize,
    n_in: usize,
    /// What every value is multiplied with.
    scale: f32,
    data: WeightBytes,
}

/// Why a tensor cannot be packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PackError {
    /// A row does not consist of whole blocks, or a side is zero.
    Shape {
        /// The tensor's type.
        ty: GgmlType,
        /// Rows asked for.
        n_out: usize,
        /// Columns asked for.
        n_in: usize,
    },
    /// The bytes given are not as many as the shape needs.
    Length {
        /// Bytes that the shape needs.
        needed: usize,
        /// Bytes given.
        given: usize,
    },
    /// There is no memory for the packed copy.
    Memory {
        /// Bytes that were asked for.
        bytes: usize,
    },
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Shape { ty, n_out, n_in } => {
                let (name, block) = (ty.name(), ty.block_elems());
                write!(
                    f,
                    "a {name} matrix cannot have shape [{n_out}, {n_in}]: whole blocks of {block} are needed"
                )
            }
            PackError::Length { needed, given } => {
                write!(f, "the matrix needs {needed} bytes, the file has {given}")
            }
            PackError::Memory { bytes } => write!(f, "no memory for {bytes} bytes of weights"),
        }
    }
}

impl std::error::Error for PackError {}

impl Weights {
    /// Packs `raw`, a matrix of `n_out` rows of `n_in` values of type `ty` as GGUF files store it.
    ///
    /// # Errors
    /// When the shape is not one of whole blocks, when `raw` has another length, or when memory is short.
    pub fn pack(
        threads: &Threads,
        ty: GgmlType,
        raw: &[u8],
        n_out: usize,
        n_in: usize,
    ) -> Result<Weights, PackError> {
        let copy = |offset: usize, out: &mut [u8]| -> Result<(), Infallible> {
            out.copy_from_slice(&raw[offset..offset + out.len()]);
            Ok(())
        };
        match Weights::pack_from(threads, (ty, n_out, n_in), raw.len(), copy, &mut |_| Ok(())) {
            Ok(packed) => packed,
            Err(never) => match never {},
        }
    }

    /// Room for a matrix of which `given` bytes are there, zeroed, and the bytes of a row of it.
    fn room(ty: GgmlType, given: usize, n_out: usize, n_in: usize) -> Result<(usize, Weights), PackError> {
        let bad_shape = PackError::Shape { ty, n_out, n_in };
        if n_out == 0 || n_in == 0 {
            return Err(bad_shape);
        }
        let row_bytes = ty.bytes_of(n_in).ok_or(bad_shape.clone())?;
        let needed = row_bytes.checked_mul(n_out).ok_or(bad_shape.clone())?;
        if needed != given {
            return Err(PackError::Length { needed, given });
        }
        let bytes = Weights::packed_bytes(ty, n_out, n_in).ok_or(bad_shape)?;
        let data = WeightBytes::zeroed(bytes).ok_or(PackError::Memory { bytes })?;
        Ok((row_bytes, Weights { ty, n_out, n_in, scale: 1.0, data }))
    }

    /// As [`Weights::pack`], of a matrix whose `given` bytes `read` gets piece by piece: it fills a slice from a byte
    /// offset on, on any of the threads. `done` is told on the calling one, now and then, how many more of them have been
    /// packed: once for a small matrix, and for a large one every 64 MiB or so.
    ///
    /// # Errors
    /// What `read` or `done` says outside, and the errors of [`Weights::pack`] inside.
    pub fn pack_from<E: Send>(
        threads: &Threads,
        (ty, n_out, n_in): (GgmlType, usize, usize),
        given: usize,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
        done: &mut dyn FnMut(usize) -> Result<(), E>,
    ) -> Result<Result<Weights, PackError>, E> {
        let (row_bytes, mut weights) = match Weights::room(ty, given, n_out, n_in) {
            Ok(room) => room,
            Err(error) => return Ok(Err(error)),
        };
        pack::pack(threads, ty, (n_out, row_bytes), read, &mut weights.data, done)?;
        Ok(Ok(weights))
    }

    /// The same matrix with every value multiplied by `scale`: what a file keeps beside a tensor in NVFP4. A product is
    /// multiplied once, after it has been summed.
    pub fn scaled(self, scale: f32) -> Weights {
        Weights { scale: self.scale * scale, ..self }
    }

    /// Bytes of memory that a packed matrix takes; `None` when a row does not consist of whole blocks, or the number does
    /// not fit.
    pub fn packed_bytes(ty: GgmlType, n_out: usize, n_in: usize) -> Option<usize> {
        ty.bytes_of(n_in)?;
        let layout = Layout::of(ty);
        let tile_bytes = (n_in / (layout.n_sub * layout.sub_k)).checked_mul(layout.group_bytes())?;
        n_out.div_ceil(TILE_ROWS).checked_mul(tile_bytes)
    }

    /// The type that the matrix had in the file.
    pub fn ty(&self) -> GgmlType {
        self.ty
    }

    /// Rows: values that a product has.
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Columns: values that a product takes.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Bytes of memory that the packed form takes.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Writes the values of row `row` to `out`, exactly as [`crate::ggml::dequantize`] would, and scaled as the matrix is.
    ///
    /// # Panics
    /// When there is no such row, or `out` is not `n_in` long.
    pub fn embed(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n_out, "row {row} of {}", self.n_out);
        assert_eq!(out.len(), self.n_in, "columns");
        unpack::row(self.ty, self.tile(row / TILE_ROWS), row % TILE_ROWS, out);
        out.iter_mut().for_each(|y| *y *= self.scale);
    }

    /// What results of the tiles are multiplied with.
    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    pub(crate) fn n_tiles(&self) -> usize {
        self.n_out.div_ceil(TILE_ROWS)
    }

    /// The bytes of tile `tile_idx`.
    pub(crate) fn tile(&self, tile_idx: usize) -> &[u8] {
        let bytes = Layout::of(self.ty).tile_bytes(self.n_in);
        &self.data[tile_idx * bytes..(tile_idx + 1) * bytes]
    }
}

#[cfg(test)]
mod tests;
