//! One head's vector in the quantised formats, and the rotation that comes first.

use super::{GROUP, MAX_HEAD_DIM, rotation_size};
use half::f16;

/// The largest value that half precision holds.
const F16_MAX: f32 = 65504.0;

/// `x` within the range of half precision; what is not finite becomes NaN, so that the row ends as faulty.
#[inline(always)]
pub(crate) fn saturate(x: f32) -> f32 {
    x.clamp(-F16_MAX, F16_MAX) + x * 0.0
}

/// Adding it to a float of a small size leaves the nearest integer, ties to even, in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// Rounds a group to integers in `−127..=127` and returns the scale's bits. Missing values are 0.
#[inline(always)]
pub(crate) fn round_q8(group: &[f32; GROUP], out: &mut [i8; GROUP]) -> u16 {
    let scale = f16::from_f32_const(saturate(largest_size(group) / 127.0));
    let inverse = inverse_of(scale);
    for (q, x) in out.iter_mut().zip(group) {
        *q = ((x * inverse).clamp(-127.0, 127.0) + ROUNDER).to_bits() as i8;
    }
    scale.to_bits()
}

/// Rounds a group to nibbles `0..=15` that stand for −8..=7, and returns the scale's bits. Missing values are 0.
///
/// The scale puts the value of the largest size on −8, or is a little smaller or larger if that fits the whole
/// group better in least squares.
#[inline(always)]
pub(crate) fn round_q4(group: &[f32; GROUP], out: &mut [u8; GROUP]) -> u16 {
    let size = largest_size(group);
    let is_positive = group.iter().fold(false, |any, x| any | (x.to_bits() == size.to_bits()));
    let largest = if is_positive { size } else { -size };
    let mut best = (f32::INFINITY, f16::from_f32_const(saturate(largest / -8.0)));
    for steps in [-8.0, -8.5, -7.5, -9.0] {
        let scale = f16::from_f32_const(saturate(largest / steps));
        let error = squared_error(group, scale);
        if error < best.0 {
            best = (error, scale);
        }
    }
    let inverse = inverse_of(best.1);
    for (q, x) in out.iter_mut().zip(group) {
        *q = (((x * inverse).clamp(-8.0, 7.0) + (ROUNDER + 8.0)).to_bits() & 15) as u8;
    }
    best.1.to_bits()
}

/// What a group loses at this scale, summed by a fixed tree so that it is the same everywhere.
#[inline(always)]
fn squared_error(group: &[f32; GROUP], scale: f16) -> f32 {
    let (step, inverse) = (scale.to_f32_const(), inverse_of(scale));
    let mut errors = [0f32; GROUP];
    for (e, x) in errors.iter_mut().zip(group) {
        let nearest = ((x * inverse).clamp(-8.0, 7.0) + ROUNDER) - ROUNDER;
        let error = x - nearest * step;
        *e = error * error;
    }
    let mut n = GROUP / 2;
    while n > 0 {
        for i in 0..n {
            errors[i] += errors[i + n];
        }
        n /= 2;
    }
    errors[0]
}

/// The largest absolute value, or NaN when there is one: as bits, a larger size is a larger integer.
#[inline(always)]
fn largest_size(group: &[f32; GROUP]) -> f32 {
    f32::from_bits(group.iter().fold(0, |m, x| m.max(x.to_bits() & 0x7FFF_FFFF)))
}

#[inline(always)]
fn inverse_of(scale: f16) -> f32 {
    let scale = scale.to_f32_const();
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Multiplies a head's vector by an orthonormal Hadamard matrix, its own inverse: a few large values are spread over
/// all. Where the length is no power of two, each run of values of the largest one that divides it by itself.
#[inline(always)]
pub fn hadamard(x: &mut [f32]) {
    let n = rotation_size(x.len());
    let half = n / 2;
    let mut buffer = [0f32; MAX_HEAD_DIM];
    let root = 1.0 / (n as f32).sqrt();
    for run in x.chunks_exact_mut(n) {
        // Every stage reads two contiguous halves and writes their sums and differences in pairs: after all
        // of them each value has met every other one.
        for _ in 0..n.trailing_zeros() {
            let (low, high) = run.split_at(half);
            for (pair, (a, b)) in buffer[..n].chunks_exact_mut(2).zip(low.iter().zip(high)) {
                pair[0] = a + b;
                pair[1] = a - b;
            }
            run.copy_from_slice(&buffer[..n]);
        }
        run.iter_mut().for_each(|x| *x *= root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    #[test]
    fn rotation_keeps_products_and_is_its_own_inverse() {
        for dim in [16, 48, 64, 80, 128, 256, 1024] {
            let (a, b) = (noise(dim, 1), noise(dim, 2));
            let (mut ra, mut rb) = (a.clone(), b.clone());
            hadamard(&mut ra);
            hadamard(&mut rb);
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum::<f64>();
            assert!((dot(&a, &b) - dot(&ra, &rb)).abs() < 1e-4);
            assert!(a.iter().zip(&ra).any(|(x, y)| (x - y).abs() > 0.1), "{dim} values are mixed");
            hadamard(&mut ra);
            assert!(a.iter().zip(&ra).all(|(x, y)| (x - y).abs() < 1e-5));
        }
    }

    #[test]
    fn a_rounded_value_is_within_half_a_step() {
        // Scales below 6e-5 are subnormal, where half precision itself has steps of 6e-8.
        const COARSE: f32 = 127.0 * 3e-8;
        for seed in 0..200 {
            let size = 10f32.powi(seed as i32 % 9 - 4);
            let group: [f32; GROUP] = noise(GROUP, seed).try_into().unwrap();
            let group = group.map(|x| x * size);
            let mut q8 = [0i8; GROUP];
            let step = f16::from_bits(round_q8(&group, &mut q8)).to_f32_const();
            let error = |(x, q): (&f32, &i8)| (x - f32::from(*q) * step).abs();
            assert!(group.iter().zip(&q8).map(error).fold(0f32, f32::max) <= 0.51 * step + COARSE);
            let mut q4 = [0u8; GROUP];
            let step = f16::from_bits(round_q4(&group, &mut q4)).to_f32_const();
            assert!(q4.iter().all(|q| *q < 16));
            let error = |(x, q): (&f32, &u8)| (x - (f32::from(*q) - 8.0) * step).abs();
            assert!(group.iter().zip(&q4).map(error).fold(0f32, f32::max) <= 1.6 * step.abs() + COARSE);
        }
    }

    #[test]
    fn extreme_groups_neither_overflow_nor_hide_faults() {
        let (mut q8, mut q4) = ([0i8; GROUP], [0u8; GROUP]);
        let padded = |values: [f32; 3]| {
            let mut group = [0f32; GROUP];
            group[..3].copy_from_slice(&values);
            group
        };
        let decode8 = |scale: u16, q: i8| f16::from_bits(scale).to_f32_const() * f32::from(q);
        let decode4 = |scale: u16, q: u8| f16::from_bits(scale).to_f32_const() * (f32::from(q) - 8.0);
        for zero in [0.0, -0.0, 1e-30] {
            let scale = round_q8(&padded([zero; 3]), &mut q8);
            assert_eq!(decode8(scale, q8[1]), 0.0);
            let scale = round_q4(&padded([zero; 3]), &mut q4);
            assert_eq!(decode4(scale, q4[1]), 0.0);
        }
        let scale = round_q8(&padded([f32::MAX, 0.0, -1.0]), &mut q8);
        assert!(decode8(scale, q8[0]) > 8e6 && decode8(scale, q8[1]) == 0.0);
        for fault in [f32::NAN, f32::INFINITY] {
            let scale = round_q8(&padded([1.0, fault, 2.0]), &mut q8);
            assert!(decode8(scale, q8[0]).is_nan());
            let scale = round_q4(&padded([1.0, fault, 2.0]), &mut q4);
            assert!(decode4(scale, q4[0]).is_nan());
            assert!(saturate(fault).is_nan());
        }
        assert_eq!(saturate(-1e9), -65504.0);
        assert_eq!(saturate(1.5), 1.5);
    }
}
