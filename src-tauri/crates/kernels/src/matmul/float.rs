//! The kernel for F16, BF16 and F32 weights: one fused chain over the columns for each output.
#![allow(unsafe_code)]

use std::ops::Range;

use super::out::{Epilogue, Out};
use crate::activations::Activations;
use crate::ggml::GgmlType;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::weights::TILE_ROWS;

simd_dispatch! {
    /// Computes one tile for `rows`.
    ///
    /// # Safety
    /// The tile is one of `acts.n_in()` columns of the float type `ty`; the rows exist and are kept as they are.
    /// The outputs exist, and no other worker uses them.
    pub(super) unsafe fn tile(ty: GgmlType, tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) = tile_on
}

/// A float type: how the lanes of a column get into registers.
trait Float {
    const BYTES: usize;

    /// # Safety
    /// [`LANES`] values of the type at `at`; the instruction set of `S`.
    unsafe fn load<S: Simd>(at: *const u8) -> S::V;
}

struct F16;
struct BF16;
struct F32;

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(at: *const u8) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(at.cast()) }
    }
}

impl Float for BF16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(at: *const u8) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = at.cast::<[u16; LANES]>().read_unaligned();
            let mut values = [0.0; LANES];
            for (value, bits) in values.iter_mut().zip(bits) {
                *value = f32::from_bits(u32::from(bits) << 16);
            }
            S::load(values.as_ptr())
        }
    }
}

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Simd>(at: *const u8) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load(at.cast()) }
    }
}

/// What [`tile`] does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The promises of [`tile`].
#[inline(always)]
unsafe fn tile_on<S: Simd>(ty: GgmlType, tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) {
    // SAFETY: the caller's promises, passed on.
    unsafe {
        match ty {
            GgmlType::F16 => all_rows::<S, F16>(tile, acts, rows, out),
            GgmlType::BF16 => all_rows::<S, BF16>(tile, acts, rows, out),
            _ => all_rows::<S, F32>(tile, acts, rows, out),
        }
    }
}

/// As many rows at once as the registers hold results for.
///
/// # Safety
/// The instruction set of `S`. The promises of [`tile`], for the type `F`.
#[inline(always)]
unsafe fn all_rows<S: Simd, F: Float>(tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) {
    let mut row = rows.start;
    // SAFETY: the caller's promises; `row` stays in `rows`.
    unsafe {
        while S::ROWS >= 8 && rows.end - row >= 8 {
            block::<S, F, 8>(tile, acts, row, out);
            row += 8;
        }
        while rows.end - row >= 2 {
            block::<S, F, 2>(tile, acts, row, out);
            row += 2;
        }
        if rows.end > row {
            block::<S, F, 1>(tile, acts, row, out);
        }
    }
}

/// `R` rows from `first` on.
///
/// # Safety
/// The instruction set of `S`. The promises of [`tile`], for the type `F` and these rows.
#[inline(always)]
unsafe fn block<S: Simd, F: Float, const R: usize>(tile: &[u8], acts: &Activations, first: usize, out: Out) {
    // SAFETY: the tile has 32 values for each of the `n_in` columns, and the rows exist.
    unsafe {
        let n_in = acts.n_in();
        let x = acts.x().as_ptr().add(first * n_in);
        let mut sums = [[S::zero(); 2]; R];
        for k in 0..n_in {
            let at = tile.as_ptr().add(TILE_ROWS * F::BYTES * k);
            let w = [F::load::<S>(at), F::load::<S>(at.add(LANES * F::BYTES))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = S::splat(*x.add(r * n_in + k));
                *sums = [S::fma(w[0], x, sums[0]), S::fma(w[1], x, sums[1])];
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            put::<S>(out, first + r, *sums);
        }
    }
}

/// Writes a row's results.
///
/// # Safety
/// The instruction set of `S`. The promises of [`tile`], for this row.
#[inline(always)]
unsafe fn put<S: Simd>(out: Out, row: usize, sums: [S::V; 2]) {
    // SAFETY: the row's outputs exist.
    unsafe {
        if out.n_cols < TILE_ROWS {
            let mut results = [0.0; TILE_ROWS];
            S::store(results.as_mut_ptr(), sums[0]);
            S::store(results.as_mut_ptr().add(LANES), sums[1]);
            out.put(row, &results);
            return;
        }
        for (i, sum) in sums.into_iter().enumerate() {
            let at = out.start.add(row * out.row_stride + LANES * i);
            let sum = S::mul(sum, S::splat(out.scale));
            let sum = match out.epilogue {
                Epilogue::Store => sum,
                Epilogue::Add => S::add(S::load(at), sum),
            };
            S::store(at, sum);
        }
    }
}
