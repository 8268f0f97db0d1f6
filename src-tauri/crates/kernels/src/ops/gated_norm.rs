//! A root mean square norm whose result another vector gates.
#![allow(unsafe_code)]

use super::norm::norm_in_place;
use super::over_rows;
use crate::isa::Isa;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};
use crate::vmath;

/// `x[r] = x[r] / rms(x[r]) · weight · silu(gate[r])` for every row of `weight.len()` values.
///
/// # Panics
/// When the slices are no whole rows or differ in length.
pub fn gated_rms_norm(threads: &Threads, isa: Isa, x: &mut [f32], weight: &[f32], eps: f32, gate: &[f32]) {
    let n = weight.len();
    assert!(n > 0 && x.len().is_multiple_of(n), "{} values in rows of {n}", x.len());
    assert_eq!(x.len(), gate.len(), "lengths of what is normed and of its gate");
    let x = SharedMut::new(x);
    over_rows(threads, gate.len() / n, n, |rows| {
        let values = rows.start * n..rows.end * n;
        // SAFETY: the rows of different ranges do not overlap; both slices are whole rows of one length.
        unsafe { gated_rows(isa, x.range(values.clone()), weight, eps, &gate[values]) };
    });
}

simd_dispatch! {
    /// # Safety
    /// None beyond the instruction set; slices are whole rows of one length.
    unsafe fn gated_rows(x: &mut [f32], weight: &[f32], eps: f32, gate: &[f32]) = gated_rows_on
}

/// Norms and gates whole rows.
///
/// # Safety
/// The instruction set of `S`. `x` and `gate` are rows as long as `weight`.
#[inline(always)]
unsafe fn gated_rows_on<S: Simd>(x: &mut [f32], weight: &[f32], eps: f32, gate: &[f32]) {
    let n = weight.len();
    for (x, gate) in x.chunks_exact_mut(n).zip(gate.chunks_exact(n)) {
        let (groups, end) = (n / LANES * LANES, n % LANES);
        // SAFETY: the instruction set of `S` by the caller; the slices have one length, and copies are one group of lanes.
        unsafe {
            norm_in_place::<S>(x, weight, eps);
            for at in (0..groups).step_by(LANES) {
                let gate = vmath::silu::<S>(S::load(gate.as_ptr().add(at)));
                S::store(x.as_mut_ptr().add(at), S::mul(S::load(x.as_ptr().add(at)), gate));
            }
            if end > 0 {
                let mut lanes = [0f32; LANES];
                lanes[..end].copy_from_slice(&gate[groups..]);
                S::store(lanes.as_mut_ptr(), vmath::silu::<S>(S::load(lanes.as_ptr())));
                x[groups..].iter_mut().zip(lanes).for_each(|(x, gate)| *x *= gate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    #[test]
    fn rows_are_normed_and_gated_as_defined_each_by_itself() {
        let mut rng = Rng::new(4);
        for isa in Isa::available() {
            for (n, n_rows) in [(128, 200), (16, 3), (19, 7), (1, 2)] {
                let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
                let (x, gate, weight) = (values(n * n_rows), values(n * n_rows), values(n));
                let mut out = x.clone();
                gated_rms_norm(&Threads::new(2), isa, &mut out, &weight, 1e-5, &gate);
                for (row, x) in x.chunks(n).enumerate() {
                    let gate = &gate[row * n..][..n];
                    let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
                    for i in 0..n {
                        let z = f64::from(gate[i]);
                        let normed = f64::from(x[i]) * f64::from(weight[i]) / (mean + 1e-5).sqrt();
                        let (got, want) = (f64::from(out[row * n + i]), normed * z / (1.0 + (-z).exp()));
                        assert!(
                            (got - want).abs() < 3e-6 * want.abs().max(1e-2),
                            "{}: {got}, {want}",
                            isa.name()
                        );
                    }
                    let mut alone = x.to_vec();
                    gated_rms_norm(&Threads::new(1), isa, &mut alone, &weight, 1e-5, gate);
                    assert!(alone.iter().zip(&out[row * n..]).all(|(a, b)| a.to_bits() == b.to_bits()));
                }
            }
        }
    }
}
