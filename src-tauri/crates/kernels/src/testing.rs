//! Random numbers and blocks for tests.

use crate::ggml::GgmlType;
use half::f16;

/// Xorshift: the same numbers on every machine.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in 0..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Roughly normal, mean 0, deviation 1.
    pub(crate) fn normal(&mut self) -> f32 {
        ((0..12).map(|_| self.unit()).sum::<f32>()) - 6.0
    }
}

/// `n` elements of type `ty` with random integers and scales of a trained model's size.
pub(crate) fn random_blocks(ty: GgmlType, n: usize, rng: &mut Rng) -> Vec<u8> {
    let mut raw = Vec::with_capacity(ty.bytes_of(n).unwrap());
    for _ in 0..n / ty.block_elems() {
        let mut block: Vec<u8> = (0..ty.block_bytes()).map(|_| (rng.bits() >> 32) as u8).collect();
        let (a, b) = (0.005 + 0.01 * rng.unit(), rng.unit());
        let (d, m) = match ty {
            GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => (rng.normal(), 0.0),
            GgmlType::Q4_1 | GgmlType::Q5_1 => (a, -a * (6.0 + 3.0 * b)),
            GgmlType::Q4K | GgmlType::Q5K => (a / 32.0, a / 4.0 * b),
            GgmlType::Q2K => (a / 8.0, a / 8.0 * b),
            GgmlType::Q6K | GgmlType::Q3K | GgmlType::IQ4NL => (a / 64.0, 0.0),
            GgmlType::IQ4XS => (a / 1024.0, 0.0),
            GgmlType::IQ3XXS | GgmlType::IQ3S => (a / 128.0, 0.0),
            GgmlType::NVFP4 | GgmlType::TQ1_0 | GgmlType::TQ2_0 => (a, 0.0),
            _ => (a / 8.0, 0.0),
        };
        set_scales(ty, &mut block, d, m);
        raw.extend_from_slice(&block);
    }
    raw
}

/// Puts `d`, the scale of a whole block, in its place, and `m`, that of the minimums, in its own; the value of a float.
pub(crate) fn set_scales(ty: GgmlType, block: &mut [u8], d: f32, m: f32) {
    let f16s = [f16::from_f32(d), f16::from_f32(m)].map(f16::to_le_bytes);
    let (n, at) = match ty {
        GgmlType::F32 => return block.copy_from_slice(&d.to_le_bytes()),
        GgmlType::BF16 => return block.copy_from_slice(&half::bf16::from_f32(d).to_le_bytes()),
        // The nearest power of two below.
        GgmlType::MXFP4 => return block[0] = (d.log2().floor() + 128.0) as u8,
        GgmlType::NVFP4 => {
            let half_of = |byte: u8| f32::from_bits(u32::from(byte) << 20) * 2f32.powi(119);
            for (i, scale) in block[..4].iter_mut().enumerate() {
                let wanted = d * (1 + i) as f32;
                *scale = (0..0x7e).find(|byte| half_of(*byte) >= wanted).unwrap_or(0x7e);
            }
            return;
        }
        GgmlType::IQ1M => {
            for (i, byte) in [49, 51, 53, 55].into_iter().enumerate() {
                block[byte] = block[byte] & 15 | (f16s[0][i / 2] >> (4 * (i % 2))) << 4;
            }
            return;
        }
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4K | GgmlType::Q5K => (2, 0),
        GgmlType::Q2K => (2, 80),
        GgmlType::Q3K => (1, 108),
        GgmlType::Q6K => (1, 208),
        GgmlType::TQ1_0 => (1, 52),
        GgmlType::TQ2_0 => (1, 64),
        _ => (1, 0),
    };
    block[at..at + 2 * n].copy_from_slice(&f16s.as_flattened()[..2 * n]);
}
