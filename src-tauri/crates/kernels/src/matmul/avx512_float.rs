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
            GgmlType::F16 => all_rows::<F16>(tile, acts, rows, out),
            GgmlType::BF16 => all_rows::<BF16>(tile, acts, rows, out),
            _ => all_rows::<F32>(tile, acts, rows, out),
        }
    }
}

/// A float type: how 16 values of a column get into a register.
trait Float {
    const BYTES: usize;
    unsafe fn load(at: *const u8) -> __m512;
}

struct F16;
struct BF16;
struct F32;

impl Float for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: 16 values of a tile, aligned to their size.
        unsafe { _mm512_cvtph_ps(_mm256_load_si256(at.cast())) }
    }
}

impl Float for BF16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: 16 values of a tile, aligned to their size.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_load_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
}

impl Float for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: 16 values of a tile, aligned to their size.
        unsafe { _mm512_load_ps(at.cast()) }
    }
}

#[inline(always)]
unsafe fn all_rows<F: Float>(tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) {
    let mut row = rows.start;
    // SAFETY: the caller's promises; `row` stays in `rows`.
    unsafe {
        while rows.end - row >= BLOCK_ROWS {
            block::<F, BLOCK_ROWS>(tile, acts, row, out);
            row += BLOCK_ROWS;
        }
        if rows.end - row >= 4 {
            block::<F, 4>(tile, acts, row, out);
            row += 4;
        }
        if rows.end - row >= 2 {
            block::<F, 2>(tile, acts, row, out);
            row += 2;
        }
        if rows.end > row {
            block::<F, 1>(tile, acts, row, out);
        }
    }
}

#[inline(always)]
unsafe fn block<F: Float, const R: usize>(tile: &[u8], acts: &Activations, first: usize, out: Out) {
    // SAFETY: the tile has 32 values for each of the `n_in` columns, and the rows exist.
    unsafe {
        let n_in = acts.n_in();
        let x = acts.x().as_ptr().add(first * n_in);
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        for k in 0..n_in {
            let at = tile.as_ptr().add(32 * F::BYTES * k);
            let w = [F::load(at), F::load(at.add(16 * F::BYTES))];
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
