//! Activations and other element-by-element operations.
#![allow(unsafe_code)]

use super::{MIN_SHARE, over_rows};
use crate::isa::Isa;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};
use crate::vmath;

/// `gate = silu(gate) · up`.
///
/// # Panics
/// When the lengths differ.
pub fn silu_mul(threads: &Threads, isa: Isa, gate: &mut [f32], up: &[f32]) {
    binary(threads, isa, Binary::SiluMul, gate, up);
}

/// `gate = gelu(gate) · up` with the tanh form of gelu.
///
/// # Panics
/// When the lengths differ.
pub fn gelu_tanh_mul(threads: &Threads, isa: Isa, gate: &mut [f32], up: &[f32]) {
    binary(threads, isa, Binary::GeluTanhMul, gate, up);
}

/// `x = x · sigmoid(gate)`.
///
/// # Panics
/// When the lengths differ.
pub fn sigmoid_mul(threads: &Threads, isa: Isa, x: &mut [f32], gate: &[f32]) {
    binary(threads, isa, Binary::SigmoidMul, x, gate);
}

/// `x = x · y`.
///
/// # Panics
/// When the lengths differ.
pub fn mul(threads: &Threads, isa: Isa, x: &mut [f32], y: &[f32]) {
    binary(threads, isa, Binary::Mul, x, y);
}

/// `x += y`.
///
/// # Panics
/// When the lengths differ.
pub fn add(threads: &Threads, isa: Isa, x: &mut [f32], y: &[f32]) {
    binary(threads, isa, Binary::Add, x, y);
}

/// Adds `bias` to each row of `x`, `[n_rows, bias.len()]`.
///
/// # Panics
/// When `x` is not whole rows.
pub fn add_to_rows(threads: &Threads, isa: Isa, x: &mut [f32], bias: &[f32]) {
    let width = bias.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "{} values in rows of {width}", x.len());
    let shared = SharedMut::new(x);
    over_rows(threads, shared.len() / width, width, |rows| {
        for row in rows {
            // SAFETY: ranges do not overlap; a row is as long as the bias.
            unsafe { add_to(isa, shared.range(row * width..(row + 1) * width), bias) };
        }
    });
}

/// `x *= factor`.
pub fn scale(threads: &Threads, isa: Isa, x: &mut [f32], factor: f32) {
    unary(threads, isa, Unary::Scale(factor), x);
}

/// Multiplies each row of `x`, `[factors.len(), width]`, by its factor.
///
/// # Panics
/// When `x` is not whole rows, one for each factor.
pub fn scale_rows(threads: &Threads, isa: Isa, x: &mut [f32], factors: &[f32]) {
    let n_rows = factors.len();
    assert!(n_rows > 0 && x.len().is_multiple_of(n_rows), "{} values in {n_rows} rows", x.len());
    let width = x.len() / n_rows;
    let shared = SharedMut::new(x);
    over_rows(threads, n_rows, width, |rows| {
        for row in rows {
            // SAFETY: ranges do not overlap.
            let x = unsafe { shared.range(row * width..(row + 1) * width) };
            // SAFETY: nothing beyond the instruction set.
            unsafe { unary_on_isa(isa, Unary::Scale(factors[row]), x) };
        }
    });
}

/// `x = cap · tanh(x / cap)`.
pub fn softcap(threads: &Threads, isa: Isa, x: &mut [f32], cap: f32) {
    unary(threads, isa, Unary::Softcap(cap), x);
}

/// `x = 1 / (1 + e^−x)`.
pub fn sigmoid(threads: &Threads, isa: Isa, x: &mut [f32]) {
    unary(threads, isa, Unary::Sigmoid, x);
}

#[derive(Clone, Copy)]
enum Binary {
    SiluMul,
    GeluTanhMul,
    SigmoidMul,
    Mul,
    Add,
}

#[derive(Clone, Copy)]
enum Unary {
    Scale(f32),
    Softcap(f32),
    Sigmoid,
}

fn binary(threads: &Threads, isa: Isa, op: Binary, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "lengths of both operands");
    let shared = SharedMut::new(x);
    // Whole groups of lanes, so that a value is computed alike wherever a range starts.
    threads.for_each(shared.len().div_ceil(LANES), MIN_SHARE / LANES, |groups| {
        let values = groups.start * LANES..shared.len().min(groups.end * LANES);
        // SAFETY: ranges do not overlap; both slices have one length.
        unsafe { binary_on_isa(isa, op, shared.range(values.clone()), &y[values]) };
    });
}

fn unary(threads: &Threads, isa: Isa, op: Unary, x: &mut [f32]) {
    let shared = SharedMut::new(x);
    threads.for_each(shared.len().div_ceil(LANES), MIN_SHARE / LANES, |groups| {
        let values = groups.start * LANES..shared.len().min(groups.end * LANES);
        // SAFETY: ranges do not overlap.
        unsafe { unary_on_isa(isa, op, shared.range(values)) };
    });
}

/// `x += y` on the calling thread.
///
/// # Safety
/// None beyond equal lengths.
pub(super) unsafe fn add_to(isa: Isa, x: &mut [f32], y: &[f32]) {
    // SAFETY: the caller's promise.
    unsafe { binary_on_isa(isa, Binary::Add, x, y) };
}

simd_dispatch! { unsafe fn binary_on_isa(op: Binary, x: &mut [f32], y: &[f32]) = binary_on }
simd_dispatch! { unsafe fn unary_on_isa(op: Unary, x: &mut [f32]) = unary_on }

/// What [`binary`] does to a range, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The slices have one length.
#[inline(always)]
unsafe fn binary_on<S: Simd>(op: Binary, x: &mut [f32], y: &[f32]) {
    let (groups, end) = x.as_chunks_mut::<LANES>();
    let (y_groups, y_end) = y.as_chunks::<LANES>();
    // SAFETY: whole groups of lanes; the instruction set by the caller.
    unsafe {
        for (x, y) in groups.iter_mut().zip(y_groups) {
            binary_lanes::<S>(op, x, y);
        }
        if !end.is_empty() {
            let (mut a, mut b) = ([0f32; LANES], [0f32; LANES]);
            a[..end.len()].copy_from_slice(end);
            b[..end.len()].copy_from_slice(y_end);
            binary_lanes::<S>(op, &mut a, &b);
            end.copy_from_slice(&a[..end.len()]);
        }
    }
}

/// One group of lanes.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn binary_lanes<S: Simd>(op: Binary, x: &mut [f32; LANES], y: &[f32; LANES]) {
    // SAFETY: one group of lanes; the instruction set by the caller.
    unsafe {
        let (a, b) = (S::load(x.as_ptr()), S::load(y.as_ptr()));
        let v = match op {
            Binary::SiluMul => S::mul(vmath::silu::<S>(a), b),
            Binary::GeluTanhMul => S::mul(vmath::gelu_tanh::<S>(a), b),
            Binary::SigmoidMul => S::mul(a, vmath::sigmoid::<S>(b)),
            Binary::Mul => S::mul(a, b),
            Binary::Add => S::add(a, b),
        };
        S::store(x.as_mut_ptr(), v);
    }
}

/// What [`unary`] does to a range, with one instruction set.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn unary_on<S: Simd>(op: Unary, x: &mut [f32]) {
    let (groups, end) = x.as_chunks_mut::<LANES>();
    // SAFETY: whole groups of lanes; the instruction set by the caller.
    unsafe {
        for x in groups {
            unary_lanes::<S>(op, x);
        }
        if !end.is_empty() {
            let mut a = [0f32; LANES];
            a[..end.len()].copy_from_slice(end);
            unary_lanes::<S>(op, &mut a);
            end.copy_from_slice(&a[..end.len()]);
        }
    }
}

/// One group of lanes.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn unary_lanes<S: Simd>(op: Unary, x: &mut [f32; LANES]) {
    // SAFETY: one group of lanes; the instruction set by the caller.
    unsafe {
        let a = S::load(x.as_ptr());
        let v = match op {
            Unary::Scale(factor) => S::mul(a, S::splat(factor)),
            Unary::Softcap(cap) => {
                let cap = S::splat(cap);
                S::mul(cap, vmath::tanh::<S>(S::div(a, cap)))
            }
            Unary::Sigmoid => vmath::sigmoid::<S>(a),
        };
        S::store(x.as_mut_ptr(), v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 4001) as f32 / 300.0 - 6.6).collect()
    }

    /// Holds `run` against `exact` on every instruction set, and its bits against those of single values.
    fn check(run: impl Fn(&Threads, Isa, &mut [f32], &[f32]), exact: impl Fn(f64, f64) -> f64) {
        for isa in Isa::available() {
            for n in [0, 1, 15, 16, 17, 100, 40_000] {
                let (x, y) = (values(n, 1), values(n, 2));
                let mut got = x.clone();
                run(&Threads::new(2), isa, &mut got, &y);
                for i in 0..n {
                    let want = exact(f64::from(x[i]), f64::from(y[i]));
                    assert!((f64::from(got[i]) - want).abs() <= 1e-6 * want.abs().max(0.1), "{}", isa.name());
                }
                for i in (0..n).step_by(997) {
                    let mut alone = [x[i]];
                    run(&Threads::new(1), isa, &mut alone, &y[i..=i]);
                    assert_eq!(alone[0].to_bits(), got[i].to_bits());
                }
            }
        }
    }

    #[test]
    fn activations_are_as_defined_and_a_value_s_bits_are_its_own() {
        check(silu_mul, |x, y| x / (1.0 + (-x).exp()) * y);
        let root = (2.0 / std::f64::consts::PI).sqrt();
        check(gelu_tanh_mul, |x, y| 0.5 * x * (1.0 + (root * (x + 0.044_715 * x * x * x)).tanh()) * y);
        check(sigmoid_mul, |x, y| x / (1.0 + (-y).exp()));
        check(mul, |x, y| x * y);
        check(add, |x, y| x + y);
        check(|t, isa, x, _| scale(t, isa, x, 0.3), |x, _| x * f64::from(0.3f32));
        check(|t, isa, x, _| softcap(t, isa, x, 5.0), |x, _| 5.0 * (x / 5.0).tanh());
        check(|t, isa, x, _| sigmoid(t, isa, x), |x, _| 1.0 / (1.0 + (-x).exp()));
    }
}
