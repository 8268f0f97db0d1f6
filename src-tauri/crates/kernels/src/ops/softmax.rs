//! The denominators of softmax, as logarithms.
#![allow(unsafe_code)]

use super::over_rows;
use crate::isa::Isa;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};
use crate::vmath;

/// Values that are summed in lanes before the sum goes on in f64.
const PIECE: usize = 64 * LANES;

/// `ln Σ exp(x)` of each row of `width` values.
///
/// # Panics
/// When `x` is no whole rows.
pub fn log_sum_exp(threads: &Threads, isa: Isa, x: &[f32], width: usize) -> Vec<f64> {
    assert!(width > 0 && x.len().is_multiple_of(width), "{} values in rows of {width}", x.len());
    let mut sums = vec![0.0; x.len() / width];
    let shared = SharedMut::new(&mut sums);
    over_rows(threads, x.len() / width, width, |rows| {
        let values = rows.start * width..rows.end * width;
        // SAFETY: the rows of different ranges do not overlap, and there is a sum for each.
        unsafe { rows_of(isa, &x[values], width, shared.range(rows)) };
    });
    sums
}

simd_dispatch! {
    /// # Safety
    /// None beyond the instruction set; `x` is a row of `width` values for each of `sums`.
    unsafe fn rows_of(x: &[f32], width: usize, sums: &mut [f64]) = rows_of_on
}

/// The sums of whole rows of `width` values.
///
/// # Safety
/// The instruction set of `S`. There is a sum for each row.
#[inline(always)]
unsafe fn rows_of_on<S: Simd>(x: &[f32], width: usize, sums: &mut [f64]) {
    for (x, sum) in x.chunks_exact(width).zip(sums) {
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // SAFETY: pieces are at least as long as what is read of them.
        let pieces = x.chunks(PIECE).map(|piece| unsafe { f64::from(sum_exp::<S>(piece, max)) });
        *sum = f64::from(max) + pieces.sum::<f64>().ln();
    }
}

/// `Σ exp(x − max)`; the rest of a piece goes through a padded copy, whose padding counts as nothing.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn sum_exp<S: Simd>(x: &[f32], max: f32) -> f32 {
    let (groups, rest) = x.as_chunks::<LANES>();
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    // SAFETY: every load is one group of lanes.
    unsafe {
        let max = S::splat(max);
        let mut sum = S::zero();
        for group in groups.iter().chain((!rest.is_empty()).then_some(&last)) {
            sum = S::add(sum, vmath::exp::<S>(S::sub(S::load(group.as_ptr()), max)));
        }
        S::sum(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    #[test]
    fn the_sum_is_that_of_the_definition_for_any_width() {
        let mut rng = Rng::new(1);
        for isa in Isa::available() {
            for width in [1, 7, 16, 100, 5000] {
                let x: Vec<f32> = (0..3 * width).map(|_| 5.0 * rng.normal()).collect();
                let got = log_sum_exp(&Threads::new(2), isa, &x, width);
                for (row, got) in x.chunks(width).zip(got) {
                    let wanted = row.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
                    assert!((got - wanted).abs() < 1e-5, "{} {width}: {got} for {wanted}", isa.name());
                }
            }
        }
    }
}
