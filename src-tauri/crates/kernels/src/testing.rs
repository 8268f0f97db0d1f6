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
    let scale = |at: f32| f16::from_f32(at).to_le_bytes();
    for _ in 0..n / ty.block_elems() {
        let mut block: Vec<u8> = (0..ty.block_bytes()).map(|_| (rng.bits() >> 32) as u8).collect();
        let (a, b) = (0.005 + 0.01 * rng.unit(), rng.unit());
        match ty {
            GgmlType::F32 => block.copy_from_slice(&rng.normal().to_le_bytes()),
            GgmlType::F16 => block.copy_from_slice(&scale(rng.normal())),
            GgmlType::BF16 => block.copy_from_slice(&half::bf16::from_f32(rng.normal()).to_le_bytes()),
            GgmlType::Q4_1 | GgmlType::Q5_1 => {
                block[..2].copy_from_slice(&scale(a));
                block[2..4].copy_from_slice(&scale(-a * (6.0 + 3.0 * b)));
            }
            GgmlType::Q4K | GgmlType::Q5K => {
                block[..2].copy_from_slice(&scale(a / 32.0));
                block[2..4].copy_from_slice(&scale(a / 4.0 * b));
            }
            GgmlType::Q6K => block[208..].copy_from_slice(&scale(a / 64.0)),
            GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => block[..2].copy_from_slice(&scale(a / 8.0)),
        }
        raw.extend_from_slice(&block);
    }
    raw
}
