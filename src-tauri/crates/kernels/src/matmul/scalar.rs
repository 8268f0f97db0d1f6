//! The kernel in plain Rust: for any CPU, and the shape that the others follow.
#![allow(unsafe_code)]

use std::ops::Range;

use super::Out;
use crate::activations::Activations;
use crate::ggml::GgmlType;
use crate::weights::{SubBlock, TILE_ROWS, bias, has_min};

/// Computes one tile of a quantised type for `rows`.
///
/// # Safety
/// The outputs exist, and no other worker uses them.
pub(super) unsafe fn tile(ty: GgmlType, tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) {
    for row in rows {
        let results = row_of_tile(ty, tile, acts, row);
        // SAFETY: the caller's promise.
        unsafe { out.put(row, &results) };
    }
}

fn row_of_tile(ty: GgmlType, tile: &[u8], acts: &Activations, row: usize) -> [f32; TILE_ROWS] {
    let mut results = [0.0f32; TILE_ROWS];
    for block in 0..acts.n_in() / 32 {
        let at = block * acts.stride() + row;
        let (x, meta) = (&acts.q()[32 * at..][..32], acts.meta()[at]);
        let offsets = [bias(ty) * meta.neg_sum_low, bias(ty) * (meta.neg_sum - meta.neg_sum_low)];
        for (col, result) in results.iter_mut().enumerate() {
            let w = SubBlock::read(ty, tile, block, col);
            let dot = |half: usize| {
                let pairs = w.q[16 * half..].iter().zip(&x[16 * half..]).take(16);
                offsets[half] + pairs.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum::<i32>()
            };
            let (low, high) = (dot(0), dot(1));
            *result = if ty == GgmlType::Q6K {
                let sum = (high as f32).mul_add(w.scale[1], low as f32 * w.scale[0]);
                sum.mul_add(meta.scale, *result)
            } else {
                let with_min = if has_min(ty) { w.min.mul_add(meta.sum, *result) } else { *result };
                ((low + high) as f32).mul_add(w.scale[0] * meta.scale, with_min)
            };
        }
    }
    results
}
