//! The kernel in plain Rust: for any CPU, and the shape that the others follow.
#![allow(unsafe_code)]

use std::ops::Range;

use super::out::{MAX_ROWS, Out};
use crate::activations::{Activations, Meta};
use crate::ggml::GgmlType;
use crate::weights::{Coding, SubBlock, TILE_ROWS};

/// Computes one tile of a quantised type for `rows`, at most [`MAX_ROWS`].
///
/// # Safety
/// The outputs exist, and no other worker uses them.
pub(super) unsafe fn tile(ty: GgmlType, tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) {
    let mut memory = [[0.0f32; TILE_ROWS]; MAX_ROWS];
    let sums = &mut memory[..rows.len()];
    let coding = Coding::of(ty);
    for block_idx in 0..acts.n_in() / 32 {
        let block: [SubBlock; TILE_ROWS] =
            std::array::from_fn(|col| SubBlock::read(ty, tile, block_idx, col));
        let first = block_idx * acts.stride() + rows.start;
        for plane in acts.planes() {
            let (x, _) = plane.q[32 * first..].as_chunks::<32>();
            for ((sums, x), meta) in sums.iter_mut().zip(x).zip(&plane.meta[first..]) {
                for (sum, w) in sums.iter_mut().zip(&block) {
                    *sum = accumulate(coding, *sum, w, x, meta);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { out.put(rows.start + r, sums) };
    }
}

/// Adds the products of 32 columns to a result. The fused operations are those of the vector kernels, though a
/// CPU without them has to emulate them: the same bits everywhere are worth more than the speed of such a CPU.
#[inline(always)]
fn accumulate(coding: Coding, sum: f32, w: &SubBlock, x: &[i8; 32], meta: &Meta) -> f32 {
    let neg_sums = [meta.neg_sum_low, meta.neg_sum - meta.neg_sum_low];
    let mut dots = [0; 2];
    for half in 0..2 {
        dots[half] = coding.bias * neg_sums[half];
        for (w, x) in w.q[16 * half..][..16].iter().zip(&x[16 * half..][..16]) {
            dots[half] += i32::from(*w) * i32::from(*x);
        }
    }
    if coding.split {
        let mut dot = (dots[1] as f32).mul_add(w.scale[1], dots[0] as f32 * w.scale[0]);
        if coding.has_min() {
            dot = w.min[0].mul_add(-neg_sums[0] as f32, dot);
            dot = w.min[1].mul_add(-neg_sums[1] as f32, dot);
        }
        return dot.mul_add(meta.scale, sum);
    }
    let sum = if coding.has_min() { w.min[0].mul_add(meta.sum, sum) } else { sum };
    ((dots[0] + dots[1]) as f32).mul_add(w.scale[0] * meta.scale, sum)
}
