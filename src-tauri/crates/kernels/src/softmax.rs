//! Logits as weights: what choosing a token reads of a whole vocabulary, in passes over blocks of [`BLOCK`] values.
//!
//! Each function looks at one row, on the calling thread; its bits depend on that row and the instruction set.
//!
//! It is here and not with sampling because a whole vocabulary is read for every row: compiled for what every
//! processor has, the same passes take several times as long.
#![allow(unsafe_code)]

use crate::isa::Isa;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::vmath;

/// Values of a block, for which a maximum and a sum are kept.
pub const BLOCK: usize = 64;

/// The maximum of each block of `values` goes to `maxima`; false when a value is not finite.
///
/// # Panics
/// When there is not one maximum for each block.
pub fn block_maxima(isa: Isa, values: &[f32], maxima: &mut [f32]) -> bool {
    assert_eq!(maxima.len(), values.len().div_ceil(BLOCK), "a maximum for each block");
    let mut is_finite = true;
    // SAFETY: every block has its maximum.
    unsafe { block_maxima_of(isa, values, maxima, &mut is_finite) };
    is_finite
}

/// `weights = e^((values - max) · scale)`, exactly 0 where the exponent is below -87, and the sum of each block.
///
/// `max` is at least every value, and `max - value` times `scale` is a number.
///
/// # Panics
/// When there is not a weight for each value and a sum for each block.
pub fn weigh(isa: Isa, values: &[f32], max: f32, scale: f32, weights: &mut [f32], sums: &mut [f32]) {
    assert_eq!(weights.len(), values.len(), "a weight for each value");
    assert_eq!(sums.len(), values.len().div_ceil(BLOCK), "a sum for each block");
    // SAFETY: every value has its weight and every block its sum.
    unsafe { weigh_row(isa, values, max, scale, weights, sums) };
}

/// The sums of those weights of each block whose values are at least `limit`.
///
/// A block whose entry in `maxima` lies below `limit` is not looked into.
///
/// # Panics
/// When values and weights, or maxima and sums, differ in number.
pub fn sums_at_least(
    isa: Isa,
    values: &[f32],
    weights: &[f32],
    maxima: &[f32],
    limit: f32,
    sums: &mut [f32],
) {
    assert_eq!(weights.len(), values.len(), "a weight for each value");
    assert_eq!(sums.len(), values.len().div_ceil(BLOCK), "a sum for each block");
    assert_eq!(maxima.len(), sums.len(), "a maximum for each block");
    // SAFETY: every value has its weight and every block its maximum and its sum.
    unsafe { sums_of_row(isa, values, weights, maxima, limit, sums) };
}

simd_dispatch! { unsafe fn block_maxima_of(values: &[f32], maxima: &mut [f32], is_finite: &mut bool) = block_maxima_on }
simd_dispatch! {
    /// Weighs one row.
    ///
    /// # Safety
    /// The slices are of the row.
    unsafe fn weigh_row(values: &[f32], max: f32, scale: f32, weights: &mut [f32], sums: &mut [f32]) = weigh_on
}
simd_dispatch! {
    /// Sums of one row.
    ///
    /// # Safety
    /// The slices are of the row.
    unsafe fn sums_of_row(values: &[f32], weights: &[f32], maxima: &[f32], limit: f32, sums: &mut [f32]) = sums_on
}

/// Sixteen values, the missing ones of a row's end replaced by `filler`.
#[inline(always)]
fn filled(values: &[f32], filler: f32) -> [f32; LANES] {
    let mut lanes = [filler; LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn block_maxima_on<S: Simd>(values: &[f32], maxima: &mut [f32], is_finite: &mut bool) {
    // SAFETY: whole groups of lanes; the instruction set by the caller.
    unsafe {
        // `v · 0` is 0 for finite values and not a number for the others, and that survives a sum.
        let mut zeros = S::zero();
        for (block, max) in values.chunks(BLOCK).zip(maxima) {
            let mut best = S::splat(f32::NEG_INFINITY);
            let (groups, end) = block.as_chunks::<LANES>();
            for group in groups {
                let v = S::load(group.as_ptr());
                zeros = S::fma(v, S::zero(), zeros);
                best = S::max(v, best);
            }
            if let Some(&first) = end.first() {
                let v = S::load(filled(end, first).as_ptr());
                zeros = S::fma(v, S::zero(), zeros);
                best = S::max(v, best);
            }
            *max = S::max_lane(best);
        }
        *is_finite = S::sum(zeros) == 0.0;
    }
}

// Functions and not closures: a closure is compiled without the instruction set of what it stands in.

/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn weight<S: Simd>(v: S::V, max: f32, scale: f32) -> S::V {
    // SAFETY: the instruction set by the caller.
    unsafe {
        let x = S::mul(S::sub(v, S::splat(max)), S::splat(scale));
        S::replace_below(x, S::splat(-87.0), vmath::exp::<S>(x), S::zero())
    }
}

/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn kept<S: Simd>(v: S::V, limit: f32, w: S::V) -> S::V {
    // SAFETY: the instruction set by the caller.
    unsafe { S::replace_below(v, S::splat(limit), w, S::zero()) }
}

/// What `weigh_row` does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn weigh_on<S: Simd>(values: &[f32], max: f32, scale: f32, weights: &mut [f32], sums: &mut [f32]) {
    // SAFETY: whole groups of lanes; the instruction set by the caller.
    unsafe {
        for ((block, weights), sum) in values.chunks(BLOCK).zip(weights.chunks_mut(BLOCK)).zip(sums) {
            let mut total = S::zero();
            let (groups, end) = block.as_chunks::<LANES>();
            let (out, out_end) = weights.as_chunks_mut::<LANES>();
            for (group, out) in groups.iter().zip(out) {
                let w = weight::<S>(S::load(group.as_ptr()), max, scale);
                S::store(out.as_mut_ptr(), w);
                total = S::add(total, w);
            }
            if !end.is_empty() {
                let w = weight::<S>(S::load(filled(end, f32::NEG_INFINITY).as_ptr()), max, scale);
                let mut lanes = [0f32; LANES];
                S::store(lanes.as_mut_ptr(), w);
                out_end.copy_from_slice(&lanes[..end.len()]);
                total = S::add(total, w);
            }
            *sum = S::sum(total);
        }
    }
}

/// What `sums_of_row` does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn sums_on<S: Simd>(values: &[f32], weights: &[f32], maxima: &[f32], limit: f32, sums: &mut [f32]) {
    // SAFETY: whole groups of lanes; the instruction set by the caller.
    unsafe {
        let blocks = values.chunks(BLOCK).zip(weights.chunks(BLOCK));
        for (((block, weights), max), sum) in blocks.zip(maxima).zip(sums) {
            let mut total = S::zero();
            if *max >= limit {
                let (groups, end) = block.as_chunks::<LANES>();
                let (weights, weights_end) = weights.as_chunks::<LANES>();
                for (group, weights) in groups.iter().zip(weights) {
                    let (v, w) = (S::load(group.as_ptr()), S::load(weights.as_ptr()));
                    total = S::add(total, kept::<S>(v, limit, w));
                }
                if !end.is_empty() {
                    let (v, w) = (filled(end, f32::NEG_INFINITY), filled(weights_end, 0.0));
                    total = S::add(total, kept::<S>(S::load(v.as_ptr()), limit, S::load(w.as_ptr())));
                }
            }
            *sum = S::sum(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths with whole blocks, whole groups of lanes, and neither.
    const LENGTHS: [usize; 8] = [1, 15, 16, 63, 64, 65, 300, 4_099];

    fn row(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.7).sin() * 12.0 - (i % 7) as f32).collect()
    }

    #[test]
    fn maxima_are_those_of_the_blocks_on_every_instruction_set() {
        for n in LENGTHS {
            let values = row(n);
            let want: Vec<f32> =
                values.chunks(BLOCK).map(|b| b.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
            for isa in Isa::available() {
                let mut maxima = vec![0.0; want.len()];
                assert!(block_maxima(isa, &values, &mut maxima));
                assert_eq!(maxima, want, "{n} on {}", isa.name());
            }
        }
    }

    #[test]
    fn a_value_that_is_not_finite_is_found_wherever_it_is() {
        for isa in Isa::available() {
            for n in LENGTHS {
                for at in [0, n / 2, n - 1] {
                    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        let mut values = row(n);
                        values[at] = bad;
                        let mut maxima = vec![0.0; n.div_ceil(BLOCK)];
                        assert!(!block_maxima(isa, &values, &mut maxima), "{bad} at {at} of {n}");
                    }
                }
            }
        }
    }

    #[test]
    fn weights_and_their_sums_are_those_of_double_precision() {
        for isa in Isa::available() {
            for n in LENGTHS.into_iter().chain([262_144]) {
                let values = row(n);
                let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let (mut weights, mut sums) = (vec![9.0; n], vec![9.0; n.div_ceil(BLOCK)]);
                weigh(isa, &values, max, 0.8, &mut weights, &mut sums);
                let exact = |v: f32| (f64::from((v - max) * 0.8)).exp();
                for (&v, &w) in values.iter().zip(&weights) {
                    assert!((f64::from(w) - exact(v)).abs() <= 4e-7 * exact(v), "{v}: {w}");
                }
                let want: f64 = values.iter().map(|&v| exact(v)).sum();
                let sum: f64 = sums.iter().map(|&s| f64::from(s)).sum();
                assert!((sum - want).abs() <= 1e-6 * want, "{n} on {}: {sum} {want}", isa.name());
            }
        }
    }

    #[test]
    fn what_is_far_below_the_best_weighs_exactly_nothing() {
        for isa in Isa::available() {
            let values = [0.0, -86.0, -88.0, f32::MIN];
            let (mut weights, mut sums) = ([9.0; 4], [9.0; 1]);
            weigh(isa, &values, 0.0, 1.0, &mut weights, &mut sums);
            assert!(weights[0] == 1.0 && weights[1] > 0.0, "{weights:?}");
            assert_eq!([weights[2], weights[3], sums[0]], [0.0, 0.0, 1.0]);
        }
    }

    #[test]
    fn a_sum_at_least_is_the_sum_of_what_reaches_the_limit() {
        for isa in Isa::available() {
            for n in LENGTHS {
                let values = row(n);
                // Small whole numbers: their sums are exact in any order.
                let weights: Vec<f32> = (0..n).map(|i| (i % 5) as f32).collect();
                let n_blocks = n.div_ceil(BLOCK);
                let mut maxima = vec![0.0; n_blocks];
                block_maxima(isa, &values, &mut maxima);
                for limit in [f32::NEG_INFINITY, -9.0, values[n / 2], values[n / 2].next_up(), 5.0, 20.0] {
                    let mut sums = vec![9.0; n_blocks];
                    sums_at_least(isa, &values, &weights, &maxima, limit, &mut sums);
                    let blocks = values.chunks(BLOCK).zip(weights.chunks(BLOCK));
                    for ((v, w), sum) in blocks.zip(&sums) {
                        let want: f32 = v.iter().zip(w).filter(|(v, _)| **v >= limit).map(|(_, w)| w).sum();
                        assert_eq!(*sum, want, "{limit} in {n} on {}", isa.name());
                    }
                }
            }
        }
    }
}
