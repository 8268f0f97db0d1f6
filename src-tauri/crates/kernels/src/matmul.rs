//! Products of input rows with packed weights.
//!
//! For each output, the integer products of 32 columns are summed exactly; then comes one chain of fused
//! f32 operations over the column blocks, in their order, and within a block over the planes of the rows. Float
//! weights have one chain over the columns. That order is the same for one row and for many, for every split, and for
//! every instruction set, so the bits are too.
//!
//! ```text
//! for each tile of 32 outputs          ← workers split these, or the rows when there are many
//!   for each column block              ← its weights stay in registers
//!     for each row                     ← streams past; accumulators in registers or the first-level cache
//! ```
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod format;
mod heads;
#[cfg(target_arch = "aarch64")]
mod neon;
mod out;
mod scalar;

use std::ops::Range;

use crate::activations::Activations;
use crate::isa::{Isa, Kind};
use crate::threads::{SharedMut, Threads, split};
use crate::weights::{TILE_ROWS, Weights};

pub use heads::matmul_heads;
pub use out::Epilogue;

pub(crate) use out::{MAX_ROWS, Out};

/// Up to so many rows, the workers share out the tiles and nothing else.
const SPLIT_TILES_ROWS: usize = 32;

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
    let n_rows = acts.n_rows();
    if n_rows <= SPLIT_TILES_ROWS || threads.n() == 1 {
        threads.run(&|worker| {
            for product in &shared {
                let tiles = split(product.weights.n_tiles(), threads.n(), worker);
                // SAFETY: the workers' tiles are disjoint, and so are the outputs of tiles.
                unsafe { product.run(isa, acts, tiles, 0..n_rows) };
            }
        });
        return;
    }
    let chunk = chunk_rows(acts);
    for product in &shared {
        let (n_chunks, n_tiles) = (n_rows.div_ceil(chunk), product.weights.n_tiles());
        let n_parts = (4 * threads.n()).div_ceil(n_chunks).min(n_tiles);
        threads.for_each(n_chunks * n_parts, 1, |units| {
            for unit in units {
                let (i, part) = (unit / n_parts, unit % n_parts);
                let rows = i * chunk..n_rows.min((i + 1) * chunk);
                // SAFETY: the units are disjoint in rows or in tiles.
                unsafe { product.run(isa, acts, split(n_tiles, n_parts, part), rows) };
            }
        });
    }
}

/// Rows that a kernel takes at once; fewer when that many rows of `acts` would leave the second-level cache no
/// room.
pub(crate) fn chunk_rows(acts: &Activations) -> usize {
    const CACHE_BYTES: usize = 512 * 1024;
    // 32 bytes and 16 of sums and scale for each 32 columns of a plane.
    let row_bytes = 48 * acts.planes().len() * acts.n_in() / 32;
    (CACHE_BYTES / row_bytes.max(1) / 16 * 16).clamp(32, MAX_ROWS)
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
        check_operands(weights, acts);
        assert_eq!(out.len(), acts.n_rows() * weights.n_out(), "outputs of {} rows", acts.n_rows());
        Shared { weights, out: SharedMut::new(out), epilogue: *epilogue }
    }

    /// Computes the outputs of `tiles` for `rows`.
    ///
    /// # Safety
    /// No other worker has the same tile and row at the same time.
    unsafe fn run(&self, isa: Isa, acts: &Activations, tiles: Range<usize>, rows: Range<usize>) {
        let chunk = chunk_rows(acts);
        for first_row in rows.clone().step_by(chunk) {
            let rows = first_row..rows.end.min(first_row + chunk);
            for tile_idx in tiles.clone() {
                // SAFETY: the caller's promise.
                unsafe { self.run_tile(isa, acts, tile_idx, rows.clone()) };
            }
        }
    }

    /// Computes the outputs of one tile for at most [`MAX_ROWS`] rows.
    ///
    /// # Safety
    /// As for [`Shared::run`].
    #[inline]
    unsafe fn run_tile(&self, isa: Isa, acts: &Activations, tile_idx: usize, rows: Range<usize>) {
        let out = Out {
            // SAFETY: the tile's first output exists.
            start: unsafe { self.out.as_ptr().add(tile_idx * TILE_ROWS) },
            row_stride: self.weights.n_out(),
            n_cols: n_cols(self.weights, tile_idx),
            scale: self.weights.scale(),
            epilogue: self.epilogue,
        };
        // SAFETY: `Shared::new` checked shapes and form; for the outputs the caller promises.
        unsafe { run_tile(isa, self.weights, tile_idx, acts, rows, out) };
    }
}

/// Outputs that a tile of `weights` has.
pub(crate) fn n_cols(weights: &Weights, tile_idx: usize) -> usize {
    TILE_ROWS.min(weights.n_out() - tile_idx * TILE_ROWS)
}

/// Holds that `acts` can be multiplied with `weights`.
///
/// # Panics
/// When the shapes do not fit, or the rows are not in the form that the weights need.
pub(crate) fn check_operands(weights: &Weights, acts: &Activations) {
    assert_eq!(acts.n_in(), weights.n_in(), "columns of the rows and of the weights");
    let has_form = if weights.ty().is_float() { acts.form().has_f32() } else { acts.form().has_int8() };
    assert!(has_form, "rows in form {:?} for {} weights", acts.form(), weights.ty().name());
}

/// Computes the outputs of one tile for at most [`MAX_ROWS`] rows.
///
/// # Safety
/// The operands have been checked; the tile and the rows exist. The outputs exist, and no other worker uses them.
#[inline]
pub(crate) unsafe fn run_tile(
    isa: Isa,
    weights: &Weights,
    tile_idx: usize,
    acts: &Activations,
    rows: Range<usize>,
    out: Out,
) {
    let (ty, tile) = (weights.ty(), weights.tile(tile_idx));
    // SAFETY: an `Isa` exists only where its instructions do; the rest is the caller's promise.
    unsafe {
        match isa.kind() {
            _ if ty.is_float() => float::tile(isa, ty, tile, acts, rows, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => avx2::tile(ty, tile, acts, rows, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => avx512::tile(ty, tile, acts, rows, out),
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDotprod => neon::tile(ty, tile, acts, rows, out),
            _ => scalar::tile(ty, tile, acts, rows, out),
        }
    }
}

#[cfg(test)]
mod tests;
