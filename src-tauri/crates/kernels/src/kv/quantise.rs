//! One head's vector in the quantised formats, and the rotation of keys in q4.

use super::{KvFormat, MAX_HEAD_DIM};
use half::f16;

/// The largest value that half precision holds.
const F16_MAX: f32 = 65504.0;

/// `x` within the range of half precision; what is not finite becomes NaN, so that the row ends as faulty.
#[inline(always)]
pub(crate) fn saturate(x: f32) -> f32 {
    x.clamp(-F16_MAX, F16_MAX) + x * 0.0
}

/// Rounds a group to integers in `−127..=127` and returns the scale's bits.
#[inline(always)]
pub(crate) fn round_q8(group: &[f32], out: &mut [i8]) -> u16 {
    let largest = largest_size(group);
    let scale = f16::from_f32_const(saturate(largest / 127.0));
    let inverse = inverse_of(scale);
    for (q, x) in out.iter_mut().zip(group) {
        *q = (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
    }
    scale.to_bits()
}

/// Rounds a group to nibbles `0..=15` that stand for −8..=7, and returns the scale's bits.
///
/// The scale puts the value of the largest size on −8, or is a little smaller or larger if that fits the whole
/// group better in least squares.
#[inline(always)]
pub(crate) fn round_q4(group: &[f32], out: &mut [u8]) -> u16 {
    let largest = group.iter().fold(0f32, |m, x| if x.abs() > m.abs() || x.is_nan() { *x } else { m });
    let mut best = (f32::INFINITY, f16::ZERO);
    for eighths in [-8.0, -8.5, -7.5, -9.0] {
        let scale = f16::from_f32_const(saturate(largest / eighths));
        let (step, inverse) = (scale.to_f32_const(), inverse_of(scale));
        let error: f32 = group.iter().map(|x| (x - nearest(*x, inverse) * step).powi(2)).sum();
        if error < best.0 || !largest.is_finite() {
            best = (error, scale);
        }
    }
    let inverse = inverse_of(best.1);
    for (q, x) in out.iter_mut().zip(group) {
        *q = (nearest(*x, inverse) + 8.0) as u8;
    }
    best.1.to_bits()
}

#[inline(always)]
fn nearest(x: f32, inverse: f32) -> f32 {
    (x * inverse).round_ties_even().clamp(-8.0, 7.0)
}

/// The largest absolute value, or NaN when there is one.
#[inline(always)]
fn largest_size(group: &[f32]) -> f32 {
    group.iter().fold(0f32, |m, x| if x.abs() > m || x.is_nan() { x.abs() } else { m })
}

#[inline(always)]
fn inverse_of(scale: f16) -> f32 {
    let scale = scale.to_f32_const();
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Whether keys and queries of `dim` values are rotated in `format`.
pub(crate) fn is_rotated(format: KvFormat, dim: usize) -> bool {
    format == KvFormat::Q4 && rotation_size(dim) > 1
}

/// The largest power of two that divides `dim`.
fn rotation_size(dim: usize) -> usize {
    1 << dim.trailing_zeros()
}

/// Multiplies each run of `rotation_size` values by the orthonormal Hadamard matrix; its own inverse.
#[inline(always)]
pub(crate) fn rotate(x: &mut [f32]) {
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
            rotate(&mut ra);
            rotate(&mut rb);
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum::<f64>();
            assert!((dot(&a, &b) - dot(&ra, &rb)).abs() < 1e-4);
            assert!(a.iter().zip(&ra).any(|(x, y)| (x - y).abs() > 0.1), "{dim} values are mixed");
            rotate(&mut ra);
            assert!(a.iter().zip(&ra).all(|(x, y)| (x - y).abs() < 1e-5));
        }
    }

    #[test]
    fn a_rounded_value_is_within_half_a_step() {
        // Scales below 6e-5 are subnormal, where half precision itself has steps of 6e-8.
        const COARSE: f32 = 127.0 * 3e-8;
        for seed in 0..200 {
            let size = 10f32.powi(seed as i32 % 9 - 4);
            let group: Vec<f32> = noise(1 + seed as usize % 32, seed).iter().map(|x| x * size).collect();
            let mut q8 = vec![0i8; group.len()];
            let step = f16::from_bits(round_q8(&group, &mut q8)).to_f32_const();
            assert!(
                group.iter().zip(&q8).all(|(x, q)| (x - f32::from(*q) * step).abs() <= 0.51 * step + COARSE)
            );
            let mut q4 = vec![0u8; group.len()];
            let step = f16::from_bits(round_q4(&group, &mut q4)).to_f32_const();
            assert!(q4.iter().all(|q| *q < 16));
            let worst = group.iter().zip(&q4).map(|(x, q)| (x - (f32::from(*q) - 8.0) * step).abs());
            assert!(worst.fold(0f32, f32::max) <= 1.6 * step.abs() + COARSE, "seed {seed}");
        }
    }

    #[test]
    fn extreme_groups_neither_overflow_nor_hide_faults() {
        let (mut q8, mut q4) = ([0i8; 3], [0u8; 3]);
        let decode8 = |scale: u16, q: i8| f16::from_bits(scale).to_f32_const() * f32::from(q);
        let decode4 = |scale: u16, q: u8| f16::from_bits(scale).to_f32_const() * (f32::from(q) - 8.0);
        for zero in [0.0, -0.0, 1e-30] {
            let scale = round_q8(&[zero; 3], &mut q8);
            assert_eq!(decode8(scale, q8[1]), 0.0);
            let scale = round_q4(&[zero; 3], &mut q4);
            assert_eq!(decode4(scale, q4[1]), 0.0);
        }
        let scale = round_q8(&[f32::MAX, 0.0, -1.0], &mut q8);
        assert!(decode8(scale, q8[0]) > 8e6 && decode8(scale, q8[1]) == 0.0);
        for fault in [f32::NAN, f32::INFINITY] {
            let scale = round_q8(&[1.0, fault, 2.0], &mut q8);
            assert!(decode8(scale, q8[0]).is_nan());
            let scale = round_q4(&[1.0, fault, 2.0], &mut q4);
            assert!(decode4(scale, q4[0]).is_nan());
            assert!(saturate(fault).is_nan());
        }
        assert_eq!(saturate(-1e9), -65504.0);
        assert_eq!(saturate(1.5), 1.5);
    }
}
