//! Blocks to values, plainly and exactly as the formats define them.

use half::{bf16, f16};

use super::GgmlType::{self, *};
use super::grids::{iq1, iq2, iq3s, iq3xxs};
use super::packed_grids;
use super::{
    FP4_BOOK, IQ4_BOOK, base_3_digit, half, scale_and_min_k, scale_bits_iq1m, scale_iq4xs, scale_q3k,
};

/// Writes the values of `raw` to `out`, plainly and exactly as the format defines them.
///
/// # Panics
/// When `raw` is not as long as `out.len()` elements of type `ty`.
pub fn dequantize(ty: GgmlType, raw: &[u8], out: &mut [f32]) {
    assert_eq!(Some(raw.len()), ty.bytes_of(out.len()), "bytes of {} elements of {}", out.len(), ty.name());
    let blocks = raw.chunks_exact(ty.block_bytes()).zip(out.chunks_exact_mut(ty.block_elems()));
    blocks.for_each(|(block, out)| match ty {
        F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
        F16 => out[0] = half(block, 0),
        BF16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
        Q4_0 => {
            let d = half(block, 0);
            nibbles(&block[2..], |i, q| out[i] = d * (i32::from(q) - 8) as f32);
        }
        Q4_1 => {
            let (d, m) = (half(block, 0), half(block, 2));
            nibbles(&block[4..], |i, q| out[i] = d * f32::from(q) + m);
        }
        Q5_0 => {
            let d = half(block, 0);
            let high = &block[2..6];
            nibbles(&block[6..], |i, q| out[i] = d * (i32::from(q | fifth_bit(high, i)) - 16) as f32);
        }
        Q5_1 => {
            let (d, m) = (half(block, 0), half(block, 2));
            let high = &block[4..8];
            nibbles(&block[8..], |i, q| out[i] = d * f32::from(q | fifth_bit(high, i)) + m);
        }
        Q8_0 => {
            let d = half(block, 0);
            out.iter_mut().zip(&block[2..]).for_each(|(y, q)| *y = d * f32::from(q.cast_signed()));
        }
        Q2K => dequantize_q2k(block, out),
        Q3K => dequantize_q3k(block, out),
        Q4K | Q5K => dequantize_q45k(ty, block, out),
        Q6K => dequantize_q6k(block, out),
        IQ4NL => {
            let d = half(block, 0);
            nibbles(&block[2..], |i, q| out[i] = d * f32::from(IQ4_BOOK[usize::from(q)]));
        }
        IQ4XS => {
            for (s, (qs, out)) in block[8..].chunks_exact(16).zip(out.chunks_exact_mut(32)).enumerate() {
                let d = half(block, 0) * f32::from(scale_iq4xs(block, s));
                nibbles(qs, |i, q| out[i] = d * f32::from(IQ4_BOOK[usize::from(q)]));
            }
        }
        MXFP4 => {
            // In f64, whose powers reach further: the smallest scales are below the normal range of f32.
            let d = 2f64.powi(i32::from(block[0]) - 128) as f32;
            nibbles(&block[1..], |i, q| out[i] = d * f32::from(FP4_BOOK[usize::from(q)]));
        }
        NVFP4 => {
            for (s, (qs, out)) in block[4..].chunks_exact(8).zip(out.chunks_exact_mut(16)).enumerate() {
                let d = e4m3(block[s]) * 0.5;
                let value = |q: u8| d * f32::from(FP4_BOOK[usize::from(q)]);
                for (i, byte) in qs.iter().enumerate() {
                    (out[i], out[8 + i]) = (value(byte & 15), value(byte >> 4));
                }
            }
        }
        IQ3XXS | IQ3S | IQ2XXS | IQ2XS | IQ2S | IQ1S | IQ1M => dequantize_grid(ty, block, out),
        TQ1_0 => {
            let d = half(block, 52);
            for (i, y) in out.iter_mut().enumerate() {
                // Digits of equal weight stand next to each other: 5 × 32, 5 × 16, then 4 × 4 elements.
                let (byte, digit) = match i {
                    0..160 => (i % 32, i / 32),
                    160..240 => (32 + i % 16, (i - 160) / 16),
                    _ => (48 + i % 4, (i - 240) / 4),
                };
                *y = d * (i32::from(base_3_digit(block[byte], digit)) - 1) as f32;
            }
        }
        TQ2_0 => {
            let d = half(block, 64);
            out.iter_mut().enumerate().for_each(|(i, y)| *y = d * (i32::from(two_bits(block, i)) - 1) as f32);
        }
    });
}

/// Q2_K. Quarter t of a half of 128 elements takes bits 2t of the half's 32 bytes of `qs`; 16 elements share a scale
/// and a minimum.
fn dequantize_q2k(block: &[u8], out: &mut [f32]) {
    let (scales, qs, d, dmin) = (&block[..16], &block[16..80], half(block, 80), half(block, 82));
    for (i, y) in out.iter_mut().enumerate() {
        let (sc, mn) = (scales[i / 16] & 15, scales[i / 16] >> 4);
        *y = (d * f32::from(sc)) * f32::from(two_bits(qs, i)) - dmin * f32::from(mn);
    }
}

/// Q3_K. As Q2_K, with a third bit: bit s of the i-th byte of `hmask` belongs to element i of the s-th 32. Where it is
/// missing, 4 are subtracted.
fn dequantize_q3k(block: &[u8], out: &mut [f32]) {
    let (hmask, qs, scales, d) = (&block[..32], &block[32..96], &block[96..108], half(block, 108));
    for (i, y) in out.iter_mut().enumerate() {
        let high = hmask[i % 32] >> (i / 32) & 1;
        let q = i32::from(two_bits(qs, i) | high << 2) - 4;
        *y = (d * f32::from(scale_q3k(scales, i / 16))) * q as f32;
    }
}

/// Q4_K and Q5_K. 32 bytes of `qs` hold two sub-blocks of 32: the low nibbles one, the high nibbles the next.
/// Bit `s` of the i-th byte of `qh` is the fifth bit of element i of sub-block s.
fn dequantize_q45k(ty: GgmlType, block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let scales = &block[4..16];
    let (qh, qs) = if ty == Q5K { (Some(&block[16..48]), &block[48..]) } else { (None, &block[16..]) };
    for (s, out) in out.chunks_exact_mut(32).enumerate() {
        let (sc, mn) = scale_and_min_k(scales, s);
        let (d, m) = (d * f32::from(sc), dmin * f32::from(mn));
        for (i, y) in out.iter_mut().enumerate() {
            let byte = qs[s / 2 * 32 + i];
            let low = if s % 2 == 0 { byte & 15 } else { byte >> 4 };
            let q = low | qh.map_or(0, |qh| (qh[i] >> s & 1) << 4);
            *y = d * f32::from(q) - m;
        }
    }
}

/// Q6_K. Each half of 128 elements has 64 bytes of `ql` and 32 of `qh`; quarter t of it (32 elements) takes
/// its nibbles from ql[32 (t mod 2)..], low for t < 2, else high, and its upper two bits from bits 2t of qh.
fn dequantize_q6k(block: &[u8], out: &mut [f32]) {
    let (ql, qh, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (i, y) in out.iter_mut().enumerate() {
        let (half, t, l) = (i / 128, i % 128 / 32, i % 32);
        let byte = ql[half * 64 + t % 2 * 32 + l];
        let low = if t < 2 { byte & 15 } else { byte >> 4 };
        let q = low | (qh[half * 32 + l] >> (2 * t) & 3) << 4;
        let d = d * f32::from(scales[i / 16].cast_signed());
        *y = d * (i32::from(q) - 32) as f32;
    }
}

/// The types whose blocks name rows of a grid, 4 or 8 elements at a time.
fn dequantize_grid(ty: GgmlType, block: &[u8], out: &mut [f32]) {
    let d = if ty == IQ1M { f16::from_bits(scale_bits_iq1m(block)).to_f32() } else { half(block, 0) };
    let u16_at = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
    // The high bits of an index, `n` of them at bit `at` of `bits`, on top of its low byte.
    let index = |low: usize, bits: u16, at: usize, n: u16| {
        usize::from(block[low]) | usize::from(bits >> at & ((1 << n) - 1)) << 8
    };
    let nibble = |at: usize, i: usize| f32::from(block[at + i / 2] >> (4 * (i % 2)) & 15);
    for (i, y) in out.iter_mut().enumerate() {
        // Which 32, which 16, which 8 and which 4 of the block the element is in, and which of its 8 it is.
        let (s, half, eight, four, bit) = (i / 32, i / 16, i / 8, i / 4, i % 8);
        let (in_s8, in_s4) = (eight % 4, four % 8);
        let is_set = |signs: u8| signs >> bit & 1 == 1;
        let (scale, magnitude, is_negative) = match ty {
            IQ3XXS => {
                let word = u32_at(66 + 4 * s);
                let grid = iq3xxs(packed_grids::IQ3XXS[usize::from(block[2 + four])], i % 4);
                (d * (0.5 + (word >> 28) as f32) * 0.5, grid, is_set(eighth_sign(word >> (7 * in_s8))))
            }
            IQ3S => {
                let at = index(2 + four, u16::from(block[66 + s]), in_s4, 1);
                let scale = d * (1.0 + 2.0 * nibble(106, s));
                (scale, iq3s(packed_grids::IQ3S[at], i % 4), is_set(block[74 + eight]))
            }
            IQ2XXS => {
                let word = u32_at(2 + 8 * s + 4);
                let grid = iq2(packed_grids::IQ2XXS[usize::from(block[2 + 8 * s + in_s8])], bit);
                (d * (0.5 + (word >> 28) as f32) * 0.25, grid, is_set(eighth_sign(word >> (7 * in_s8))))
            }
            IQ2XS => {
                let word = u16_at(2 + 2 * eight);
                let grid = iq2(packed_grids::IQ2XS[usize::from(word & 511)], bit);
                (d * (0.5 + nibble(66, half)) * 0.25, grid, is_set(eighth_sign(u32::from(word >> 9))))
            }
            IQ2S => {
                let at = index(2 + eight, u16::from(block[66 + s]), 2 * in_s8, 2);
                (
                    d * (0.5 + nibble(74, half)) * 0.25,
                    iq2(packed_grids::IQ2S[at], bit),
                    is_set(block[34 + eight]),
                )
            }
            IQ1S => {
                let word = u16_at(34 + 2 * s);
                let at = index(2 + eight, word, 3 * in_s8, 3);
                let delta = if word >> 15 == 1 { -0.125 } else { 0.125 };
                (d * f32::from(2 * (word >> 12 & 7) + 1), iq1(packed_grids::IQ1[at], bit) + delta, false)
            }
            _ => {
                let bits = block[32 + half] >> (4 * (eight % 2));
                let at = index(eight, u16::from(bits), 0, 3);
                let delta = if bits >> 3 & 1 == 1 { -0.125 } else { 0.125 };
                let sc = u16_at(48 + 2 * (half / 4)) >> (3 * (half % 4)) & 7;
                (d * f32::from(2 * sc + 1), iq1(packed_grids::IQ1[at], bit) + delta, false)
            }
        };
        *y = scale * if is_negative { -magnitude } else { magnitude };
    }
}

/// Seven signs, and the eighth, which makes their number even.
fn eighth_sign(bits: u32) -> u8 {
    let seven = (bits & 127) as u8;
    seven | (seven.count_ones() as u8 % 2) << 7
}

/// A float without a sign, of four bits of exponent and three of mantissa. NaN counts as zero, and what would be the
/// sign is ignored.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    match (byte, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    }
}

/// Element i < 16 is the low nibble of byte i, element 16 + i the high one.
fn nibbles(bytes: &[u8], mut put: impl FnMut(usize, u8)) {
    bytes.iter().enumerate().for_each(|(i, byte)| {
        put(i, byte & 15);
        put(16 + i, byte >> 4);
    });
}

/// Element i of 256: quarter t of each half of 128 has bits 2t of the half's 32 bytes.
fn two_bits(qs: &[u8], i: usize) -> u8 {
    qs[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3
}

fn fifth_bit(high: &[u8], i: usize) -> u8 {
    (high[i / 8] >> (i % 8) & 1) << 4
}
