//! F16, BF16 and F32 weights in AVX-512: one fused chain over the columns for each output.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::Out;
use super::avx512::put;
use crate::activations::Activations;
use crate::ggml::GgmlType;

/// Rows whose results fill the registers.
const BLOCK_ROWS: usize = 8;

/// Computes one tile of a float type.
///
/// # Safety
/// As for the quantised types.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn tile(ty: GgmlType, tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) {
    // SAFETY: the caller's promises, passed on.
    unsafe {
        match ty {
            GgmlType::F16 => all_rows::<2>(tile, acts, rows, out, |at| {
                _mm512_cvtph_ps(_mm256_load_si256(at.cast()))
            }),
            GgmlType::BF16 => all_rows::<2>(tile, acts, rows, out, |at| {
                let bits = _mm512_cvtepu16_epi32(_mm256_load_si256(at.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
            }),
            _ => all_rows::<4>(tile, acts, rows, out, |at| _mm512_load_ps(at.cast())),
        }
    }
}

#[inline(always)]
unsafe fn all_rows<const BYTES: usize>(
    tile: &[u8],
    acts: &Activations,
    rows: Range<usize>,
    out: Out,
    load: impl Fn(*const u8) -> __m512 + Copy,
) {
    let mut row = rows.start;
    // SAFETY: the caller's promises; `row` stays in `rows`.
    unsafe {
        while rows.end - row >= BLOCK_ROWS {
            block::<BYTES, BLOCK_ROWS>(tile, acts, row, out, load);
            row += BLOCK_ROWS;
        }
        if rows.end - row >= 4 {
            block::<BYTES, 4>(tile, acts, row, out, load);
            row += 4;
        }
        if rows.end - row >= 2 {
            block::<BYTES, 2>(tile, acts, row, out, load);
            row += 2;
        }
        if rows.end > row {
            block::<BYTES, 1>(tile, acts, row, out, load);
        }
    }
}

#[inline(always)]
unsafe fn block<const BYTES: usize, const R: usize>(
    tile: &[u8],
    acts: &Activations,
    first: usize,
    out: Out,
    load: impl Fn(*const u8) -> __m512 + Copy,
) {
    // SAFETY: the tile has 32 values for each of the `n_in` columns, and the rows exist.
    unsafe {
        let n_in = acts.n_in();
        let x = acts.x().as_ptr().add(first * n_in);
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        for k in 0..n_in {
            let at = tile.as_ptr().add(32 * BYTES * k);
            let w = [load(at), load(at.add(16 * BYTES))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*x.add(r * n_in + k));
                *sums = [_mm512_fmadd_ps(w[0], x, sums[0]), _mm512_fmadd_ps(w[1], x, sums[1])];
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            put(out, first + r, *sums);
        }
    }
}
