//! 32 values to 32 bytes and a scale.
//!
//! One body in lane arrays, compiled for each instruction set: the same operations in the same order
//! everywhere, hence the same bytes.
#![allow(unsafe_code)]

use super::Meta;
use crate::isa::{Isa, Kind};

/// Largest magnitudes below this count as zero: their inverse would overflow.
const TINY: f32 = 1e-30;

/// 1.5 × 2^23: added to a number below 2^22 it leaves the nearest integer (ties to even) in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Quantises `values`: the bytes of block b go to `q + 32 b stride`, the rest to `meta + b stride`.
///
/// # Safety
/// Both places are valid for writes, for each of the `values.len() / 32` blocks, and nobody else uses them.
pub(super) unsafe fn quantize_row(isa: Isa, values: &[f32], q: *mut i8, meta: *mut Meta, stride: usize) {
    // SAFETY: the caller's promise; an `Isa` exists only where its instructions do.
    unsafe {
        match isa.kind() {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => avx512(values, q, meta, stride),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => avx2(values, q, meta, stride),
            _ => body(values, q, meta, stride),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512(values: &[f32], q: *mut i8, meta: *mut Meta, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { body(values, q, meta, stride) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(values: &[f32], q: *mut i8, meta: *mut Meta, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { body(values, q, meta, stride) }
}

#[inline(always)]
unsafe fn body(values: &[f32], q: *mut i8, meta: *mut Meta, stride: usize) {
    for (b, values) in values.as_chunks::<32>().0.iter().enumerate() {
        let (bytes, info) = quantize_block(values);
        // SAFETY: the caller's promise for block `b`.
        unsafe {
            q.add(32 * b * stride).cast::<[i8; 32]>().write_unaligned(bytes);
            meta.add(b * stride).write(info);
        }
    }
}

#[inline(always)]
fn quantize_block(values: &[f32; 32]) -> ([i8; 32], Meta) {
    // As integers, the bits of magnitudes are ordered like the magnitudes, with infinity and NaN on top.
    let mut largest = [0u32; 16];
    for i in 0..16 {
        let (a, b) = (values[i].to_bits() & 0x7fff_ffff, values[i + 16].to_bits() & 0x7fff_ffff);
        largest[i] = a.max(b);
    }
    let largest = f32::from_bits(largest.iter().fold(0, |a, b| a.max(*b)));
    if !largest.is_finite() {
        return ([0; 32], Meta { scale: f32::NAN, sum: f32::NAN, neg_sum: 0, neg_sum_low: 0 });
    }
    let (scale, inverse) = if largest < TINY { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
    let mut ints = [0i32; 32];
    for (int, value) in ints.iter_mut().zip(values) {
        *int = (value * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    }
    let low: i32 = ints[..16].iter().sum();
    let sum: i32 = ints[16..].iter().fold(low, |a, b| a + b);
    let mut bytes = [0i8; 32];
    for (byte, int) in bytes.iter_mut().zip(ints) {
        *byte = int as i8;
    }
    (bytes, Meta { scale, sum: scale * sum as f32, neg_sum: -sum, neg_sum_low: -low })
}
