//! Exponential, hyperbolic tangent and the activation functions made of them, sixteen lanes at a time.
//!
//! The polynomials are least-maximum fits (Lawson's method) of our own; the error that each function states
//! is held by a test over every instruction set.
#![allow(unsafe_code)]

use crate::simd::Simd;

/// `2^x` within 2e-7 of its value; below 2^-126 it is exactly 0, and `2^0` is exactly 1. For `x` up to 127.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn exp2<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let lowest = S::splat(-126.0);
        let clamped = S::min(S::splat(127.0), S::max(lowest, x));
        let n = S::round(clamped);
        let r = S::sub(clamped, n);
        let mut p = S::splat(1.326_472_7e-3);
        for c in [9.671_513e-3, 5.550_733_7e-2, 2.402_224_2e-1, 0.693_146_97, 1.0] {
            p = S::fma(p, r, S::splat(c));
        }
        S::replace_below(x, lowest, S::scale_by_power(p, n), S::zero())
    }
}

/// `e^x` within 2e-7 of its value for `x` in −87..=88, and the value at the nearer end outside.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let x = S::min(S::splat(88.0), S::max(S::splat(-87.0), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first with so few bits that its product with `n` is exact.
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.381_461_3e-3);
        for c in [8.368_71e-3, 4.166_838_7e-2, 1.666_652_1e-1, 0.499_999_93, 1.0, 1.0] {
            p = S::fma(p, r, S::splat(c));
        }
        S::scale_by_power(p, n)
    }
}

/// `tanh x` within 4e-7 of its value.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::splat(1.0);
        let size = S::max(S::sub(S::zero(), x), x);
        // Near 0 the quotient below would cancel.
        let squared = S::mul(x, x);
        let mut p = S::splat(1.519_520_1e-2);
        for c in [-5.194_779e-2, 1.330_817_3e-1, -3.333_234e-1] {
            p = S::fma(p, squared, S::splat(c));
        }
        let near = S::fma(S::mul(p, squared), x, x);
        let far = S::sub(one, S::div(S::splat(2.0), S::add(one, exp::<S>(S::add(size, size)))));
        let far = S::replace_below(x, S::zero(), far, S::sub(S::zero(), far));
        S::replace_below(size, S::splat(0.625), far, near)
    }
}

/// `1 / (1 + e^-x)`.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::zero(), x))))
    }
}

/// `x / (1 + e^-x)`.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn silu<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::div(x, S::add(S::splat(1.0), exp::<S>(S::sub(S::zero(), x)))) }
}

/// `x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, by way of the equal `x / (1 + e^(-2…))`.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn gelu_tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        const ROOT_8_OVER_PI: f32 = 1.595_769_2;
        let cubic = S::fma(
            S::mul(S::mul(x, x), S::splat(-0.044_715 * ROOT_8_OVER_PI)),
            x,
            S::mul(x, S::splat(-ROOT_8_OVER_PI)),
        );
        S::div(x, S::add(S::splat(1.0), exp::<S>(cubic)))
    }
}

/// `ln(1 + e^x)` within 3e-7 of its value.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn softplus<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let negative = S::sub(S::zero(), x);
        let power = exp::<S>(S::min(x, negative));
        // ln(1 + y) = 2 artanh(s), s = y / (2 + y), which is at most 1/3: its series is short.
        let s = S::div(power, S::add(S::splat(2.0), power));
        let squared = S::mul(s, s);
        let mut p = S::splat(2.0 / 15.0);
        for c in [2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0] {
            p = S::fma(p, squared, S::splat(c));
        }
        S::fma(p, s, S::max(S::zero(), x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::simd::{LANES, simd_dispatch};

    #[derive(Clone, Copy)]
    enum Function {
        Exp2,
        Exp,
        Tanh,
        Silu,
        GeluTanh,
        Softplus,
    }

    /// A function of every value.
    ///
    /// # Safety
    /// The instruction set of `S`.
    #[inline(always)]
    unsafe fn map<S: Simd>(function: Function, x: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            for chunk in x.chunks_exact_mut(LANES) {
                let v = S::load(chunk.as_ptr());
                let v = match function {
                    Function::Exp2 => exp2::<S>(v),
                    Function::Exp => exp::<S>(v),
                    Function::Tanh => tanh::<S>(v),
                    Function::Silu => silu::<S>(v),
                    Function::GeluTanh => gelu_tanh::<S>(v),
                    Function::Softplus => softplus::<S>(v),
                };
                S::store(chunk.as_mut_ptr(), v);
            }
        }
    }

    simd_dispatch! { unsafe fn map_on(function: Function, x: &mut [f32]) = map }

    /// The largest error over `lo..hi` on every instruction set, relative to the value or to `floor` if larger.
    fn worst(function: Function, lo: f32, hi: f32, floor: f64, exact: impl Fn(f64) -> f64) -> f64 {
        let n = 1 << 18;
        let xs: Vec<f32> = (0..n).map(|i| lo + (hi - lo) * i as f32 / (n - 1) as f32).collect();
        let mut worst = 0f64;
        for isa in Isa::available() {
            let mut ys = xs.clone();
            // SAFETY: slices of whole lanes.
            unsafe { map_on(isa, function, &mut ys) };
            for (x, y) in xs.iter().zip(&ys) {
                let want = exact(f64::from(*x));
                worst = worst.max((f64::from(*y) - want).abs() / want.abs().max(floor));
            }
        }
        worst
    }

    fn one(isa: Isa, function: Function, x: f32) -> f32 {
        let mut xs = [x; LANES];
        // SAFETY: one group of lanes.
        unsafe { map_on(isa, function, &mut xs) };
        xs[7]
    }

    #[test]
    fn each_function_keeps_its_stated_error() {
        assert!(worst(Function::Exp2, -126.0, 127.0, 0.0, f64::exp2) < 2e-7);
        assert!(worst(Function::Exp2, -1.0, 1.0, 0.0, f64::exp2) < 2e-7);
        assert!(worst(Function::Exp, -87.0, 88.0, 0.0, f64::exp) < 2e-7);
        assert!(worst(Function::Exp, -1.0, 1.0, 0.0, f64::exp) < 2e-7);
        assert!(worst(Function::Tanh, -12.0, 12.0, 1e-30, f64::tanh) < 4e-7);
        assert!(worst(Function::Tanh, -1.0, 1.0, 1e-30, f64::tanh) < 4e-7);
        let silu = |x: f64| x / (1.0 + (-x).exp());
        assert!(worst(Function::Silu, -20.0, 80.0, 1e-30, silu) < 1e-6);
        let softplus = |x: f64| x.exp().ln_1p();
        assert!(worst(Function::Softplus, -87.0, 80.0, 0.0, softplus) < 3e-7);
        assert!(worst(Function::Softplus, -1.0, 1.0, 0.0, softplus) < 3e-7);
        let gelu = |x: f64| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        };
        assert!(worst(Function::GeluTanh, -4.0, 30.0, 0.01, gelu) < 1e-6);
    }

    #[test]
    fn the_ends_are_exact() {
        for isa in Isa::available() {
            assert_eq!(one(isa, Function::Exp2, 0.0), 1.0);
            assert_eq!(one(isa, Function::Exp2, f32::NEG_INFINITY).to_bits(), 0);
            assert_eq!(one(isa, Function::Exp2, -127.0).to_bits(), 0);
            assert_eq!(one(isa, Function::Exp, 0.0), 1.0);
            assert_eq!(one(isa, Function::Tanh, 0.0), 0.0);
            assert_eq!(one(isa, Function::Tanh, f32::MAX), 1.0);
            assert_eq!(one(isa, Function::Tanh, f32::MIN), -1.0);
            assert_eq!(one(isa, Function::Silu, 1e30), 1e30);
            assert!(one(isa, Function::Silu, -1e4).abs() < 1e-30);
            assert_eq!(one(isa, Function::Softplus, 1e30), 1e30);
            assert!(one(isa, Function::Softplus, -1e30) < 1e-37);
            assert_eq!(one(isa, Function::GeluTanh, 1e9), 1e9);
            assert!(one(isa, Function::GeluTanh, -1e4).abs() < 1e-30);
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for isa in Isa::available() {
            for function in [
                Function::Exp2,
                Function::Exp,
                Function::Tanh,
                Function::Silu,
                Function::GeluTanh,
                Function::Softplus,
            ] {
                assert!(one(isa, function, f32::NAN).is_nan());
            }
        }
    }
}
