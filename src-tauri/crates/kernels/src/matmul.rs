//! Products of input rows with packed weights.
//!
//! For each output, the integer products of 32 columns are summed exactly; then comes one chain of fused
//! f32 operations over the column blocks, in their order. Float weights have one chain over the columns. That
//! order is the same for one row and for many, for every split, and for every instruction set, so the bits
//! are too.
//!
//! ```text
//! for each tile of 32 outputs          ← workers split these, or the rows when there are many
//!   for each column block              ← its weights stay in registers
//!     for each row                     ← streams past; accumulators in registers or the first-level cache
//! ```
#![allow(unsafe_code)]

mod scalar;

use std::ops::Range;

use crate::activations::Activations;
use crate::ggml::GgmlType;
use crate::isa::Isa;
use crate::threads::{SharedMut, Threads, split};
use crate::weights::{TILE_ROWS, Weights};

/// What happens to a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Epilogue {
    /// It replaces what is in `out`.
    Store,
    /// It is added to what is in `out`: a residual connection.
    Add,
}

/// One of several products with the same rows.
pub struct Product<'a> {
    /// The matrix, `[n_out, n_in]`.
    pub weights: &'a Weights,
    /// Where the results go, `[n_rows, n_out]`.
    pub out: &'a mut [f32],
    /// How they get there.
    pub epilogue: Epilogue,
}

/// Multiplies the rows of `acts`, `[n_rows, n_in]`, with `weights`, `[n_out, n_in]`, into `out`,
/// `[n_rows, n_out]`.
///
/// # Panics
/// When the shapes do not fit, or the rows are not in the form that the weights need.
pub fn matmul(
    threads: &Threads,
    isa: Isa,
    weights: &Weights,
    acts: &Activations,
    out: &mut [f32],
    epilogue: Epilogue,
) {
    matmul_each(threads, isa, acts, &mut [Product { weights, out, epilogue }]);
}

/// Several products with the same rows in one go: one start of the workers instead of one for each.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_each(threads: &Threads, isa: Isa, acts: &Activations, products: &mut [Product<'_>]) {
    let shared: Vec<Shared<'_>> = products.iter_mut().map(|product| Shared::new(acts, product)).collect();
    threads.run(&|worker| {
        for product in &shared {
            let tiles = split(product.weights.n_tiles(), threads.n(), worker);
            // SAFETY: the workers' tiles are disjoint, and so are the outputs of tiles.
            unsafe { product.run(isa, acts, tiles, 0..acts.n_rows()) };
        }
    });
}

/// A product whose outputs several workers write.
struct Shared<'a> {
    weights: &'a Weights,
    out: SharedMut<'a, f32>,
    epilogue: Epilogue,
}

impl<'a> Shared<'a> {
    fn new(acts: &Activations, product: &'a mut Product<'_>) -> Shared<'a> {
        let Product { weights, out, epilogue } = product;
        assert_eq!(acts.n_in(), weights.n_in(), "columns of the rows and of the weights");
        assert_eq!(out.len(), acts.n_rows() * weights.n_out(), "outputs of {} rows", acts.n_rows());
        let is_float = matches!(weights.ty(), GgmlType::F32 | GgmlType::F16 | GgmlType::BF16);
        let has_form = if is_float { acts.form().has_f32() } else { acts.form().has_int8() };
        assert!(has_form, "rows in form {:?} for {} weights", acts.form(), weights.ty().name());
        Shared { weights, out: SharedMut::new(out), epilogue: *epilogue }
    }

    /// Computes the outputs of `tiles` for `rows`.
    ///
    /// # Safety
    /// No other worker has the same tile and row at the same time.
    unsafe fn run(&self, isa: Isa, acts: &Activations, tiles: Range<usize>, rows: Range<usize>) {
        for tile_idx in tiles {
            let first = tile_idx * TILE_ROWS;
            let out = Out {
                // SAFETY: the tile's first output exists.
                start: unsafe { self.out.as_ptr().add(first) },
                row_stride: self.weights.n_out(),
                n_cols: TILE_ROWS.min(self.weights.n_out() - first),
                epilogue: self.epilogue,
            };
            let _ = isa;
            // SAFETY: the caller's promise.
            unsafe { scalar::tile(self.weights.ty(), self.weights.tile(tile_idx), acts, rows.clone(), out) };
        }
    }
}

/// Where a tile's outputs go: column c of row r is at `start + r row_stride + c`.
#[derive(Clone, Copy)]
struct Out {
    start: *mut f32,
    row_stride: usize,
    /// Columns that exist; a last tile may have fewer than 32.
    n_cols: usize,
    epilogue: Epilogue,
}

impl Out {
    /// Writes the 32 results of a row, as far as their columns exist.
    ///
    /// # Safety
    /// The row's outputs exist, and no other worker uses them.
    #[inline(always)]
    unsafe fn put(self, row: usize, results: &[f32; TILE_ROWS]) {
        for (col, result) in results.iter().enumerate().take(self.n_cols) {
            // SAFETY: the caller's promise.
            let out = unsafe { &mut *self.start.add(row * self.row_stride + col) };
            *out = if self.epilogue == Epilogue::Add { *out + result } else { *result };
        }
    }
}

#[cfg(test)]
mod tests;
