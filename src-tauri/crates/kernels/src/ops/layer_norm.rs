//! Layer norms: rows with their mean taken away and scaled by their deviation (Ba et al. 2016, arXiv 1607.06450).
#![allow(unsafe_code)]

use super::over_rows;
use crate::isa::Isa;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};

/// A layer norm.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a> {
    /// What the normed values are multiplied with: `[width]`.
    pub weight: &'a [f32],
    /// What is added then: `[width]`.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

/// `x[r] = (x[r] − mean) / √(variance + eps) · weight + bias` for every row of `x`, `[n_rows, width]`.
///
/// # Panics
/// When `x` is no whole rows, or weights and biases differ in length.
pub fn layer_norm(threads: &Threads, isa: Isa, x: &mut [f32], norm: LayerNorm<'_>) {
    let n = norm.weight.len();
    assert_eq!(norm.bias.len(), n, "biases of a norm of {n} weights");
    assert!(n > 0 && x.len().is_multiple_of(n), "{} values in rows of {n}", x.len());
    let shared = SharedMut::new(x);
    over_rows(threads, shared.len() / n, n, |rows| {
        // SAFETY: the rows of different ranges do not overlap; they are as long as the weights.
        unsafe { norm_rows(isa, norm, shared.range(rows.start * n..rows.end * n)) };
    });
}

simd_dispatch! {
    /// # Safety
    /// `x` is whole rows as long as the weights, which are as long as the biases.
    unsafe fn norm_rows(norm: LayerNorm<'_>, x: &mut [f32]) = norm_rows_on
}

/// Norms whole rows.
///
/// # Safety
/// The instruction set of `S`. The promises of `norm_rows`.
#[inline(always)]
unsafe fn norm_rows_on<S: Simd>(norm: LayerNorm<'_>, x: &mut [f32]) {
    let n = norm.weight.len();
    let (whole, rest) = (n / LANES * LANES, n % LANES);
    let (last_weight, last_bias) = (padded(&norm.weight[whole..]), padded(&norm.bias[whole..]));
    for row in x.chunks_exact_mut(n) {
        // What does not fill the lanes goes through a padded copy.
        let mut last = padded(&row[whole..]);
        let at = row.as_mut_ptr();
        // SAFETY: the instruction set by the caller; whole groups of lanes of slices of one length, and copies that are
        // one group each.
        unsafe {
            let mut sum = S::load(last.as_ptr());
            for i in (0..whole).step_by(LANES) {
                sum = S::add(sum, S::load(at.add(i)));
            }
            let mean = S::splat(S::sum(sum) / n as f32);
            let off = S::keep_range(S::sub(S::load(last.as_ptr()), mean), 0, rest, S::zero());
            let mut squares = S::mul(off, off);
            for i in (0..whole).step_by(LANES) {
                let off = S::sub(S::load(at.add(i)), mean);
                squares = S::fma(off, off, squares);
            }
            let factor = S::splat(1.0 / (S::sum(squares) / n as f32 + norm.eps).sqrt());
            for i in (0..whole).step_by(LANES) {
                let weight = S::load(norm.weight.as_ptr().add(i));
                let normed = S::mul(S::sub(S::load(at.add(i)), mean), factor);
                S::store(at.add(i), S::fma(normed, weight, S::load(norm.bias.as_ptr().add(i))));
            }
            let normed = S::mul(S::sub(S::load(last.as_ptr()), mean), factor);
            let weighed = S::fma(normed, S::load(last_weight.as_ptr()), S::load(last_bias.as_ptr()));
            S::store(last.as_mut_ptr(), weighed);
        }
        row[whole..].copy_from_slice(&last[..rest]);
    }
}

/// A group of lanes with zeros for the values that it lacks.
#[inline(always)]
fn padded(values: &[f32]) -> [f32; LANES] {
    let mut lanes = [0f32; LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    fn rows(n: usize, n_rows: usize, middle: f32) -> Vec<f32> {
        let mut rng = Rng::new(n as u64);
        (0..n * n_rows).map(|_| middle + 3.0 * rng.normal()).collect()
    }

    #[test]
    fn rows_are_normed_as_defined_on_every_instruction_set() {
        for isa in Isa::available() {
            for (n, n_rows) in [(384, 40), (1, 3), (15, 4), (16, 2), (47, 5), (768, 1)] {
                // Far from 0 too, where the mean takes nearly all of a value.
                for middle in [0.0, -0.5, 100.0] {
                    let (x, weight, bias) = (rows(n, n_rows, middle), rows(n, 1, 1.0), rows(n, 1, 0.1));
                    let mut out = x.clone();
                    let norm = LayerNorm { weight: &weight, bias: &bias, eps: 1e-5 };
                    layer_norm(&Threads::new(2), isa, &mut out, norm);
                    for (x, out) in x.chunks(n).zip(out.chunks(n)) {
                        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
                        let variance =
                            x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n as f64;
                        for i in 0..n {
                            let normed = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt();
                            let want = normed * f64::from(weight[i]) + f64::from(bias[i]);
                            let error = (f64::from(out[i]) - want).abs();
                            // Taking the mean away cannot be more precise than the values are.
                            let bound =
                                1e-5 * f64::from(1.0 + middle.abs()) * f64::from(1.0 + weight[i].abs());
                            assert!(error < bound, "{} {n}: {} for {want}", isa.name(), out[i]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_rows_bits_are_its_own() {
        let (weight, bias) = (rows(390, 1, 1.0), rows(390, 1, 0.0));
        let norm = LayerNorm { weight: &weight, bias: &bias, eps: 1e-12 };
        for isa in Isa::available() {
            let x = rows(390, 100, 0.3);
            let mut together = x.clone();
            layer_norm(&Threads::new(3), isa, &mut together, norm);
            for (x, want) in x.chunks(390).zip(together.chunks(390)) {
                let mut alone = x.to_vec();
                layer_norm(&Threads::new(1), isa, &mut alone, norm);
                assert!(alone.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", isa.name());
            }
        }
    }

    #[test]
    fn a_row_that_is_not_numbers_spoils_no_other() {
        for isa in Isa::available() {
            let mut x = rows(40, 3, 0.0);
            x[45] = f32::NAN;
            let norm = LayerNorm { weight: &[1.0; 40], bias: &[0.0; 40], eps: 1e-5 };
            layer_norm(&Threads::new(1), isa, &mut x, norm);
            let spoilt: Vec<bool> = x.chunks(40).map(|row| row.iter().all(|x| x.is_nan())).collect();
            assert_eq!(spoilt, [false, true, false], "{}", isa.name());
        }
    }
}
