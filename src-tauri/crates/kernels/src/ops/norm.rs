//! Root mean square norms.
#![allow(unsafe_code)]

use super::over_rows;
use crate::isa::Isa;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};

/// `out[r] = x[r] / rms(x[r]) · weight` for every row of `weight.len()` values.
///
/// # Panics
/// When the slices are no whole rows or differ in length.
pub fn rms_norm(threads: &Threads, isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let n = weight.len();
    assert!(n > 0 && x.len().is_multiple_of(n), "{} values in rows of {n}", x.len());
    assert_eq!(x.len(), out.len(), "lengths of input and output");
    let out = SharedMut::new(out);
    over_rows(threads, x.len() / n, n, |rows| {
        let values = rows.start * n..rows.end * n;
        // SAFETY: the rows of different ranges do not overlap; both slices are whole rows of one length.
        unsafe { norm_rows(isa, &x[values.clone()], weight, eps, out.range(values)) };
    });
}

/// `x = x / rms(x) · weight` for each of the `n_groups` equal parts of every row of `weight.len()` values, by itself.
///
/// # Panics
/// When `x` is no whole rows, or rows are no whole parts.
pub fn rms_norm_groups(
    threads: &Threads,
    isa: Isa,
    x: &mut [f32],
    weight: &[f32],
    n_groups: usize,
    eps: f32,
) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "{} values in rows of {width}", x.len());
    assert!(n_groups > 0 && width.is_multiple_of(n_groups), "rows of {width} in {n_groups} parts");
    let (n, x) = (width / n_groups, SharedMut::new(x));
    over_rows(threads, x.len() / n, n, |parts| {
        for part in parts {
            let weight = &weight[part % n_groups * n..][..n];
            // SAFETY: the parts of different ranges do not overlap; both slices have one length.
            unsafe { norm_part(isa, x.range(part * n..(part + 1) * n), weight, eps) };
        }
    });
}

simd_dispatch! {
    /// # Safety
    /// The slices have one length.
    unsafe fn norm_part(x: &mut [f32], weight: &[f32], eps: f32) = norm_in_place
}

/// `x += y`, then `out[r] = x[r] / rms(x[r]) · weight`: the residual sum and the norm after it, in one pass.
///
/// # Panics
/// When the slices are no whole rows or differ in length.
pub fn add_rms_norm(
    threads: &Threads,
    isa: Isa,
    x: &mut [f32],
    y: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let n = weight.len();
    assert!(n > 0 && x.len().is_multiple_of(n), "{} values in rows of {n}", x.len());
    assert!(x.len() == out.len() && x.len() == y.len(), "lengths of both inputs and the output");
    let n_rows = x.len() / n;
    let (x, out) = (SharedMut::new(x), SharedMut::new(out));
    over_rows(threads, n_rows, n, |rows| {
        let values = rows.start * n..rows.end * n;
        // SAFETY: the rows of different ranges do not overlap; all slices are whole rows of one length.
        unsafe {
            let x = x.range(values.clone());
            super::activation::add_to(isa, x, &y[values.clone()]);
            norm_rows(isa, x, weight, eps, out.range(values));
        }
    });
}

simd_dispatch! {
    /// # Safety
    /// None beyond the instruction set; slices are whole rows of one length.
    unsafe fn norm_rows(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = norm_rows_on
}

/// Norms whole rows.
///
/// # Safety
/// The instruction set of `S`. `x` and `out` are rows as long as `weight`.
#[inline(always)]
unsafe fn norm_rows_on<S: Simd>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let n = weight.len();
    for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        // SAFETY: the instruction set of `S` by the caller; the slices have one length.
        unsafe {
            let factor = inverse_rms::<S>(x, eps);
            weigh::<S>(x.as_ptr(), weight, factor, out.as_mut_ptr());
        }
    }
}

/// One vector in place.
///
/// # Safety
/// The instruction set of `S`; `weight` as long as `x`.
#[inline(always)]
pub(crate) unsafe fn norm_in_place<S: Simd>(x: &mut [f32], weight: &[f32], eps: f32) {
    // SAFETY: as the caller promises; each group of lanes is read before it is written.
    unsafe {
        let factor = inverse_rms::<S>(x, eps);
        weigh::<S>(x.as_ptr(), weight, factor, x.as_mut_ptr());
    }
}

/// `1 / √(mean(x²) + eps)`.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn inverse_rms<S: Simd>(x: &[f32], eps: f32) -> f32 {
    // SAFETY: whole groups of lanes of the slice, then a padded copy of its end.
    let sum = unsafe {
        let (mut even, mut odd) = (S::zero(), S::zero());
        let pairs = x.chunks_exact(2 * LANES);
        let end = pairs.remainder();
        for pair in pairs {
            let (a, b) = (S::load(pair.as_ptr()), S::load(pair.as_ptr().add(LANES)));
            even = S::fma(a, a, even);
            odd = S::fma(b, b, odd);
        }
        let mut padded = [0f32; 2 * LANES];
        padded[..end.len()].copy_from_slice(end);
        let (a, b) = (S::load(padded.as_ptr()), S::load(padded.as_ptr().add(LANES)));
        S::sum(S::add(S::fma(a, a, even), S::fma(b, b, odd)))
    };
    1.0 / (sum / x.len() as f32 + eps).sqrt()
}

/// # Safety
/// The instruction set of `S`; `x` and `out` valid for `weight.len()` values, equal or apart.
#[inline(always)]
unsafe fn weigh<S: Simd>(x: *const f32, weight: &[f32], factor: f32, out: *mut f32) {
    let whole = weight.len() / LANES * LANES;
    // SAFETY: indices below `weight.len()`.
    unsafe {
        let f = S::splat(factor);
        for i in (0..whole).step_by(LANES) {
            S::store(out.add(i), S::mul(S::mul(S::load(x.add(i)), f), S::load(weight.as_ptr().add(i))));
        }
        for (i, weight) in weight.iter().enumerate().skip(whole) {
            *out.add(i) = *x.add(i) * factor * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 300.0 - 3.3).collect()
    }

    #[test]
    fn rows_are_normed_as_defined_on_every_instruction_set() {
        for isa in Isa::available() {
            for (n, n_rows) in [(576, 40), (1, 3), (15, 4), (16, 2), (47, 5), (640, 1)] {
                let (x, weight) = (values(n * n_rows, n), values(n, 3));
                let mut out = vec![0.0; x.len()];
                rms_norm(&Threads::new(2), isa, &x, &weight, 1e-5, &mut out);
                for (x, out) in x.chunks(n).zip(out.chunks(n)) {
                    let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
                    for i in 0..n {
                        let want = f64::from(x[i]) * f64::from(weight[i]) / (mean + 1e-5).sqrt();
                        assert!(
                            (f64::from(out[i]) - want).abs() < 2e-6 * want.abs().max(1e-3),
                            "{}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn parts_of_rows_have_the_bits_of_rows_of_their_own() {
        for isa in Isa::available() {
            for (n_groups, n) in [(1, 47), (4, 32), (3, 20)] {
                let (x, weight) = (values(n_groups * n * 30, 1), values(n_groups * n, 2));
                let mut got = x.clone();
                rms_norm_groups(&Threads::new(3), isa, &mut got, &weight, n_groups, 1e-5);
                for (part, (x, got)) in x.chunks(n).zip(got.chunks(n)).enumerate() {
                    let (weight, mut want) = (&weight[part % n_groups * n..][..n], vec![0.0; n]);
                    rms_norm(&Threads::new(1), isa, x, weight, 1e-5, &mut want);
                    assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()));
                }
            }
        }
    }

    #[test]
    fn the_fused_sum_and_norm_has_the_bits_of_both_after_each_other() {
        for isa in Isa::available() {
            for n_threads in [1, 2, 3] {
                let threads = Threads::new(n_threads);
                let (mut x, y, weight) = (values(576 * 50, 1), values(576 * 50, 2), values(576, 3));
                let sum: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
                let (mut want, mut got) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                for (sum, want) in sum.chunks(576).zip(want.chunks_mut(576)) {
                    rms_norm(&threads, isa, sum, &weight, 1e-6, want);
                }
                add_rms_norm(&threads, isa, &mut x, &y, &weight, 1e-6, &mut got);
                assert_eq!(x, sum);
                assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }
}
