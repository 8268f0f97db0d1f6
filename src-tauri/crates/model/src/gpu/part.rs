//! How keys and values of one layer lie in each block of a device's pool.
//!
//! ```text
//! a part   K or V of one layer in a block, token by token:
//!   f16    [block_tokens][n_kv_heads][dim] f16
//!   q8     [block_tokens][n_kv_heads][dim] i8, then scales [block_tokens][n_kv_heads][dim / 32] f16,
//!          of vectors that were multiplied by a Hadamard matrix first
//! slot     block × block_tokens + place in the block: one token's place, what the operations are told
//! ```
//!
//! The order within a part is not the CPU kernels' one: blocks of one path mean nothing to the other, and the
//! model's fingerprint says which path wrote them.

use half::f16;
use scheduler::{KvDtype, KvLayout};

use crate::error::Cause;

/// Values that share a scale in q8.
pub(super) const GROUP: usize = 32;

/// The largest value of half precision: larger ones are stored as it.
const MAX_HALF: f32 = 65504.0;

/// How values lie in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KvFormat {
    F16,
    Q8,
}

/// Where K or V of one layer lies in each block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) format: KvFormat,
    /// Bytes from a block's start.
    pub(super) offset: usize,
    pub(super) block_bytes: usize,
    pub(super) block_tokens: usize,
    pub(super) n_kv_heads: usize,
    /// Values of a head's vector.
    pub(super) dim: usize,
}

impl KvFormat {
    pub(super) fn of(dtype: KvDtype) -> Result<KvFormat, Cause> {
        match dtype {
            KvDtype::F16 => Ok(KvFormat::F16),
            KvDtype::Q8 => Ok(KvFormat::Q8),
            KvDtype::Q4 => {
                Err(Cause::Setup("q4 keys and values run on the CPU only; f16 and q8 do here".into()))
            }
        }
    }
}

impl Part {
    pub(super) fn new(
        format: KvFormat,
        layout: &KvLayout,
        offset: usize,
        (n_kv_heads, dim): (usize, usize),
    ) -> Part {
        let KvLayout { block_bytes, block_tokens, .. } = *layout;
        Part { format, offset, block_bytes, block_tokens, n_kv_heads, dim }
    }

    /// Groups of values that a head's vector has, each with a scale in q8.
    pub(super) fn n_groups(&self) -> usize {
        self.dim.div_ceil(GROUP)
    }

    /// Where a head's values and scales lie in the pool.
    fn place(&self, slot: usize, head: usize) -> (usize, usize) {
        let start = slot / self.block_tokens * self.block_bytes + self.offset;
        let vector = slot % self.block_tokens * self.n_kv_heads + head;
        let scales = start + self.block_tokens * self.n_kv_heads * self.dim + vector * self.n_groups() * 2;
        match self.format {
            KvFormat::F16 => (start + vector * self.dim * 2, 0),
            KvFormat::Q8 => (start + vector * self.dim, scales),
        }
    }

    pub(super) fn store(&self, pool: &mut [u8], slot: usize, head: usize, vector: &[f32]) {
        let (values, scales) = self.place(slot, head);
        match self.format {
            KvFormat::F16 => {
                let out = pool[values..values + 2 * self.dim].as_chunks_mut().0;
                out.iter_mut()
                    .zip(vector)
                    .for_each(|(out, x)| *out = f16::from_f32(saturate(*x)).to_le_bytes());
            }
            KvFormat::Q8 => {
                for (g, group) in vector.chunks(GROUP).enumerate() {
                    let scale = scale_of(group);
                    pool[scales + 2 * g..][..2].copy_from_slice(&scale.to_le_bytes());
                    let inverse = if scale == f16::ZERO { 0.0 } else { 1.0 / scale.to_f32() };
                    let out = &mut pool[values + g * GROUP..][..group.len()];
                    for (out, x) in out.iter_mut().zip(group) {
                        *out = (x * inverse).clamp(-127.0, 127.0).round_ties_even() as i8 as u8;
                    }
                }
            }
        }
    }

    pub(super) fn load(&self, pool: &[u8], slot: usize, head: usize, vector: &mut [f32]) {
        let (values, scales) = self.place(slot, head);
        match self.format {
            KvFormat::F16 => {
                let values = pool[values..values + 2 * self.dim].as_chunks().0;
                vector.iter_mut().zip(values).for_each(|(x, value)| *x = f16::from_le_bytes(*value).to_f32());
            }
            KvFormat::Q8 => {
                for (g, group) in vector.chunks_mut(GROUP).enumerate() {
                    let scale = f16::from_le_bytes([pool[scales + 2 * g], pool[scales + 2 * g + 1]]).to_f32();
                    let values = &pool[values + g * GROUP..][..group.len()];
                    group.iter_mut().zip(values).for_each(|(x, q)| *x = f32::from(*q as i8) * scale);
                }
            }
        }
    }
}

/// `x` within half precision; what is not finite becomes NaN, so that the row ends as faulty.
fn saturate(x: f32) -> f32 {
    if x.is_finite() { x.clamp(-MAX_HALF, MAX_HALF) } else { f32::NAN }
}

/// The step of a group's integers: its largest value is 127 of them.
fn scale_of(group: &[f32]) -> f16 {
    if group.iter().all(|x| x.is_finite()) {
        let largest = group.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        f16::from_f32((largest / 127.0).min(MAX_HALF))
    } else {
        f16::NAN
    }
}
