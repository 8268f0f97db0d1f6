//! 32 values to 32 bytes and a scale.
//!
//! One body in lane arrays, compiled for each instruction set: the same operations in the same order
//! everywhere, hence the same bytes.
#![allow(unsafe_code)]

use super::rows::Meta;
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Kind;

/// Largest magnitudes below this count as zero: their inverse would overflow.
const TINY: f32 = 1e-30;

/// 1.5 × 2^23: added to a number below 2^22 it leaves the nearest integer (ties to even) in the low bits.
const ROUND: f32 = 12_582_912.0;

/// What of a value a byte leaves is at most half of what the byte counts, and so is 127 of these steps.
const STEPS_OF_REST: f32 = 254.0;

/// Where a row's first block goes.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) q: *mut i8,
    pub(super) meta: *mut Meta,
}

/// Quantises `values`: block b goes `stride` blocks behind block b - 1, and if asked for, what it lost to `rest`.
///
/// # Safety
/// The targets are valid for writes, for each of the `values.len() / 32` blocks, and nobody else uses them.
pub(super) unsafe fn quantize_row(isa: Isa, values: &[f32], to: Target, rest: Option<Target>, stride: usize) {
    // SAFETY: the caller's promise; an `Isa` exists only where its instructions do.
    unsafe {
        match isa.kind() {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => avx512(values, to, rest, stride),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => avx2(values, to, rest, stride),
            _ => body(values, to, rest, stride),
        }
    }
}

/// `body` in AVX-512.
///
/// # Safety
/// The CPU has the instructions that the attribute names; the promises of `body`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512(values: &[f32], to: Target, rest: Option<Target>, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { body(values, to, rest, stride) }
}

/// `body` in AVX2.
///
/// # Safety
/// The CPU has the instructions that the attribute names; the promises of `body`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(values: &[f32], to: Target, rest: Option<Target>, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { body(values, to, rest, stride) }
}

/// # Safety
/// As [`quantize_row`].
#[inline(always)]
unsafe fn body(values: &[f32], to: Target, rest: Option<Target>, stride: usize) {
    for (b, values) in values.as_chunks::<32>().0.iter().enumerate() {
        let (scale, inverse) = scale_of(values);
        let mut scaled = [0f32; 32];
        if !scale.is_nan() {
            scaled.iter_mut().zip(values).for_each(|(scaled, value)| *scaled = value * inverse);
        }
        let ints = round(&scaled);
        // SAFETY: the caller's promise for block `b`.
        unsafe { to.write(b * stride, &ints, scale) };
        if let Some(rest) = rest {
            scaled.iter_mut().zip(ints).for_each(|(x, int)| *x = (*x - int as f32) * STEPS_OF_REST);
            // SAFETY: as above.
            unsafe { rest.write(b * stride, &round(&scaled), scale / STEPS_OF_REST) };
        }
    }
}

impl Target {
    /// # Safety
    /// There is a block `at` blocks from here.
    #[inline(always)]
    unsafe fn write(self, at: usize, ints: &[i32; 32], scale: f32) {
        let low: i32 = ints[..16].iter().sum();
        let sum: i32 = ints[16..].iter().fold(low, |a, b| a + b);
        let mut bytes = [0i8; 32];
        for (byte, int) in bytes.iter_mut().zip(ints) {
            *byte = *int as i8;
        }
        let meta = Meta { scale, sum: scale * sum as f32, neg_sum: -sum, neg_sum_low: -low };
        // SAFETY: the caller's promise.
        unsafe {
            self.q.add(32 * at).cast::<[i8; 32]>().write_unaligned(bytes);
            self.meta.add(at).write(meta);
        }
    }
}

/// What a byte counts, and its inverse: 0 for a block too small to count, NaN and 0 for one that is not finite.
#[inline(always)]
fn scale_of(values: &[f32; 32]) -> (f32, f32) {
    // As integers, the bits of magnitudes are ordered like the magnitudes, with infinity and NaN on top.
    let mut largest = [0u32; 16];
    for i in 0..16 {
        let (a, b) = (values[i].to_bits() & 0x7fff_ffff, values[i + 16].to_bits() & 0x7fff_ffff);
        largest[i] = a.max(b);
    }
    let largest = f32::from_bits(largest.iter().fold(0, |a, b| a.max(*b)));
    if !largest.is_finite() {
        return (f32::NAN, 0.0);
    }
    if largest < TINY { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) }
}

/// The nearest integers.
#[inline(always)]
fn round(values: &[f32; 32]) -> [i32; 32] {
    let mut ints = [0i32; 32];
    for (int, value) in ints.iter_mut().zip(values) {
        *int = (value + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    }
    ints
}
