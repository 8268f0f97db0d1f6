//! What the inner values of a feed-forward go through, element by element.
#![allow(unsafe_code)]

use crate::isa::Isa;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::vmath;

/// The function of a gate, of whose result and `up` the product is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// x · sigmoid(x).
    Silu,
    /// GELU in its tanh form.
    GeluTanh,
    /// x · sigmoid(1.702 x) for the x that is at most 7, times `up` within ±7 and increased by 1, as gpt-oss has it.
    ClampedSilu,
}

/// Where [`Gate::ClampedSilu`] cuts.
const LIMIT: f32 = 7.0;
/// How steep its sigmoid is.
const ALPHA: f32 = 1.702;

/// `out = function(gate) · up`; a value's bits are its own.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn gate_values(isa: Isa, function: Gate, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len(), "lengths of gate, up and output");
    // SAFETY: three slices of one length.
    unsafe { gated(isa, Inner::Gated(function), gate, up, out) }
}

/// `out = gelu(x)` with the tanh form of gelu; a value's bits are its own.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn gelu_tanh_values(isa: Isa, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "lengths of input and output");
    // SAFETY: three slices of one length.
    unsafe { gated(isa, Inner::GeluTanh, x, x, out) }
}

/// `out = max(x, 0)²`; a value's bits are its own.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn square_positive(isa: Isa, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "lengths of input and output");
    // SAFETY: three slices of one length.
    unsafe { gated(isa, Inner::SquaredRelu, x, x, out) }
}

/// All of them.
#[derive(Clone, Copy)]
enum Inner {
    Gated(Gate),
    GeluTanh,
    SquaredRelu,
}

simd_dispatch! {
    /// # Safety
    /// The slices have one length.
    unsafe fn gated(function: Inner, gate: &[f32], up: &[f32], out: &mut [f32]) = gated_on
}

/// Lanes at a time; the rest goes through padded copies, so it is computed alike.
///
/// # Safety
/// The instruction set of `S`. The slices have one length.
#[inline(always)]
unsafe fn gated_on<S: Simd>(function: Inner, gate: &[f32], up: &[f32], out: &mut [f32]) {
    let whole = out.len() / LANES * LANES;
    // SAFETY: the slices are equally long, and the padded copies are one group of lanes.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            let (gate, up) = (S::load(gate.as_ptr().add(i)), S::load(up.as_ptr().add(i)));
            S::store(out.as_mut_ptr().add(i), lanes::<S>(function, gate, up));
        }
        let rest = out.len() - whole;
        if rest > 0 {
            let mut padded = [[0.0; LANES]; 3];
            padded[0][..rest].copy_from_slice(&gate[whole..]);
            padded[1][..rest].copy_from_slice(&up[whole..]);
            let (gate, up) = (S::load(padded[0].as_ptr()), S::load(padded[1].as_ptr()));
            S::store(padded[2].as_mut_ptr(), lanes::<S>(function, gate, up));
            out[whole..].copy_from_slice(&padded[2][..rest]);
        }
    }
}

/// Sixteen values.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn lanes<S: Simd>(function: Inner, gate: S::V, up: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        match function {
            Inner::Gated(Gate::Silu) => S::mul(vmath::silu::<S>(gate), up),
            Inner::Gated(Gate::GeluTanh) => S::mul(vmath::gelu_tanh::<S>(gate), up),
            Inner::Gated(Gate::ClampedSilu) => {
                // The second operand is kept when the first is no number, so that NaN goes on.
                let gate = S::min(S::splat(LIMIT), gate);
                let up = S::max(S::splat(-LIMIT), S::min(S::splat(LIMIT), up));
                let power = vmath::exp::<S>(S::mul(S::splat(-ALPHA), gate));
                let silu = S::div(gate, S::add(S::splat(1.0), power));
                S::mul(silu, S::add(up, S::splat(1.0)))
            }
            Inner::GeluTanh => vmath::gelu_tanh::<S>(gate),
            Inner::SquaredRelu => {
                let positive = S::max(S::zero(), gate);
                S::mul(positive, positive)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    #[test]
    fn each_function_is_as_defined_and_a_values_bits_are_its_own() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let clamped = |g: f64, u: f64| {
            let (g, u) = (g.min(7.0), u.clamp(-7.0, 7.0));
            g * sigmoid(1.702 * g) * (u + 1.0)
        };
        let mut rng = Rng::new(3);
        for isa in Isa::available() {
            let gate: Vec<f32> = (0..333).map(|_| 6.0 * rng.normal()).collect();
            let up: Vec<f32> = (0..333).map(|_| 6.0 * rng.normal()).collect();
            let [mut out, mut squared, mut gelu] = [0; 3].map(|_| vec![0.0; 333]);
            gate_values(isa, Gate::ClampedSilu, &gate, &up, &mut out);
            square_positive(isa, &gate, &mut squared);
            gelu_tanh_values(isa, &gate, &mut gelu);
            for i in 0..333 {
                let (g, u) = (f64::from(gate[i]), f64::from(up[i]));
                let near = |got: f32, want: f64| (f64::from(got) - want).abs() <= 2e-6 * want.abs().max(0.1);
                assert!(near(out[i], clamped(g, u)), "{}: {} for {g}, {u}", isa.name(), out[i]);
                assert!(near(squared[i], g.max(0.0).powi(2)), "{}: {} for {g}", isa.name(), squared[i]);
                let root = (2.0 / std::f64::consts::PI).sqrt();
                let tanh = (root * (g + 0.044_715 * g * g * g)).tanh();
                assert!(near(gelu[i], 0.5 * g * (1.0 + tanh)), "{}: {} for {g}", isa.name(), gelu[i]);
                let mut alone = [0.0];
                gate_values(isa, Gate::ClampedSilu, &gate[i..=i], &up[i..=i], &mut alone);
                assert_eq!(alone[0].to_bits(), out[i].to_bits());
                gelu_tanh_values(isa, &gate[i..=i], &mut alone);
                assert_eq!(alone[0].to_bits(), gelu[i].to_bits());
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for isa in Isa::available() {
            let mut out = [0.0; 3];
            gate_values(isa, Gate::ClampedSilu, &[f32::NAN, 1.0, 1.0], &[1.0, f32::NAN, 1.0], &mut out);
            assert_eq!(out.map(f32::is_nan), [true, true, false]);
            square_positive(isa, &[f32::NAN, 1.0, -1.0], &mut out);
            assert_eq!(out.map(f32::is_nan), [true, false, false]);
            gelu_tanh_values(isa, &[f32::NAN, 1.0, -1.0], &mut out);
            assert_eq!(out.map(f32::is_nan), [true, false, false]);
        }
    }
}
