//! The kernel in NEON with the dot product instructions: a quarter of a line, the words of 4 rows, is one register,
//! and one instruction multiplies it with four activations.
//!
//! The intrinsics of these instructions are not stable yet, hence the assembly.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::format::{Format, sub_blocks, with_format};
use super::out::{Epilogue, MAX_ROWS, Out};
use crate::activations::{Activations, Meta};
use crate::ggml::GgmlType;
use crate::weights::TILE_ROWS;

/// Registers that hold a value for each row of a tile.
const COLS: usize = 8;

/// The results of a row.
type Sums = [float32x4_t; COLS];

/// Computes one tile of a quantised type for `rows`, at most [`MAX_ROWS`].
///
/// # Safety
/// The CPU has the dot product instructions. The tile is one of `acts.n_in()` columns of type `ty`, the rows exist
/// and are in the form for it. The outputs exist, and no other worker uses them.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn tile(ty: GgmlType, tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) {
    // SAFETY: the caller's promises, passed on.
    unsafe {
        with_format!(ty, F => match rows.len() {
            1 => one::<F>(tile.as_ptr(), acts, rows.start, out),
            _ => many::<F>(tile.as_ptr(), acts, rows, out),
        }, _ => unreachable!("float types have their own kernel"));
    }
}

/// One row, its results in registers.
///
/// # Safety
/// The promises of [`tile`], for one row.
#[inline(never)]
#[target_feature(enable = "neon,dotprod")]
unsafe fn one<F: Format>(tile: *const u8, acts: &Activations, row: usize, out: Out) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [vdupq_n_f32(0.0); COLS];
        for (block_idx, head, sub) in sub_blocks::<F>(tile, acts.n_in()) {
            let at = block_idx * acts.stride() + row;
            for (col, sum) in sums.iter_mut().enumerate() {
                let block = load::<F>(head, sub, col);
                for plane in acts.planes() {
                    let (q, meta) = plane.at(at);
                    *sum = accumulate::<F>(*sum, &block, q, &*meta);
                }
            }
        }
        put(out, row, sums);
    }
}

/// Any number of rows, their results in the first-level cache.
///
/// # Safety
/// The promises of [`tile`].
#[inline(never)]
#[target_feature(enable = "neon,dotprod")]
unsafe fn many<F: Format>(tile: *const u8, acts: &Activations, rows: Range<usize>, out: Out) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut memory = [MaybeUninit::<Sums>::uninit(); MAX_ROWS];
        for sums in &mut memory[..rows.len()] {
            sums.write([vdupq_n_f32(0.0); COLS]);
        }
        let sums: &mut [Sums] = std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), rows.len());
        for (block_idx, head, sub) in sub_blocks::<F>(tile, acts.n_in()) {
            let at = block_idx * acts.stride() + rows.start;
            for col in 0..COLS {
                let block = load::<F>(head, sub, col);
                for plane in acts.planes() {
                    let (q, meta) = plane.at(at);
                    for (r, sums) in sums.iter_mut().enumerate() {
                        sums[col] = accumulate::<F>(sums[col], &block, q.add(32 * r), &*meta.add(r));
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            put(out, rows.start + r, *sums);
        }
    }
}

/// 4 rows of a sub-block, unpacked into registers.
struct Block {
    /// Words 0..4 and 4..8.
    w: [[uint8x16_t; 4]; 2],
    /// The scales, of the second 16 columns apart for split types only.
    scale: [float32x4_t; 2],
    min: float32x4_t,
}

/// Rows `4 col..` of a sub-block.
///
/// # Safety
/// The CPU has the instructions that the attribute names. `head` and `sub` are those of a sub-block of `F`,
/// `col` is below [`COLS`].
#[inline(always)]
unsafe fn load<F: Format>(head: *const u8, sub: *const u8, col: usize) -> Block {
    // SAFETY: reads inside the sub-block and its head, at the places that the layout defines.
    unsafe {
        let zero = vdupq_n_f32(0.0);
        let (scale, min) = match F::TY {
            GgmlType::Q4_1 | GgmlType::Q5_1 => ([f16s(sub, col), zero], f16s(sub.add(64), col)),
            GgmlType::Q4K | GgmlType::Q5K => {
                let min = vnegq_f32(vmulq_f32(f16s(head.add(64), col), u8s(sub.add(32), col)));
                ([vmulq_f32(f16s(head, col), u8s(sub, col)), zero], min)
            }
            GgmlType::Q6K => {
                let d = f16s(head, col);
                ([vmulq_f32(d, i8s(sub, col)), vmulq_f32(d, i8s(sub.add(32), col))], zero)
            }
            _ => ([f16s(sub, col), zero], zero),
        };
        Block { w: words::<F>(sub.add(F::LINES + 16 * col)), scale, min }
    }
}

/// The words at the same quarter of the same kind of lines; `lines` points to the first quarter.
///
/// # Safety
/// The CPU has the instructions that the attribute names. `lines` are a sub-block's of `F`, `col` is below
/// [`COLS`].
#[inline(always)]
unsafe fn words<F: Format>(lines: *const u8) -> [[uint8x16_t; 4]; 2] {
    // SAFETY: reads the lines of one sub-block.
    unsafe {
        let mut w = [[vdupq_n_u8(0); 4]; 2];
        if F::TY == GgmlType::Q8_0 {
            for (j, w) in w.as_flattened_mut().iter_mut().enumerate() {
                *w = veorq_u8(vld1q_u8(lines.add(128 * j)), vdupq_n_u8(128));
            }
            return w;
        }
        let [low, high] = &mut w;
        for (j, (low, high)) in low.iter_mut().zip(high).enumerate() {
            let bytes = vld1q_u8(lines.add(64 * F::HIGH_LINES + 128 * j));
            *low = vandq_u8(bytes, vdupq_n_u8(15));
            *high = vshrq_n_u8::<4>(bytes);
        }
        // Bits that go to bit 4 upwards: of each line as many as there are words to it.
        let (n_bits, n_words) = if F::HIGH_LINES == 4 { (2, 4) } else { (1, 8) };
        let mask = vdupq_n_u8(if n_bits == 2 { 0x30 } else { 0x10 });
        for i in 0..F::HIGH_LINES / 2 {
            let bits = vld1q_u8(lines.add(128 * i));
            for j in 0..n_words {
                // A negative count shifts to the right.
                let shifted = vshlq_u8(bits, vdupq_n_s8(4 - (n_bits * j) as i8));
                let w = &mut w.as_flattened_mut()[4 * i + j];
                *w = vorrq_u8(*w, vandq_u8(shifted, mask));
            }
        }
        w
    }
}

/// Adds the products of one row with 4 rows of a sub-block to the row's results.
///
/// # Safety
/// The CPU has the instructions that the attribute names. 32 bytes are at `x`.
#[inline(always)]
unsafe fn accumulate<F: Format>(sum: float32x4_t, block: &Block, x: *const i8, meta: &Meta) -> float32x4_t {
    // SAFETY: `x` points to 32 bytes.
    unsafe {
        let x = [vld1q_s8(x), vld1q_s8(x.add(16))];
        if F::SPLIT {
            let neg_sums = [meta.neg_sum_low, meta.neg_sum - meta.neg_sum_low];
            let low = vcvtq_f32_s32(dot(vdupq_n_s32(32 * neg_sums[0]), block.w[0], x[0]));
            let high = vcvtq_f32_s32(dot(vdupq_n_s32(32 * neg_sums[1]), block.w[1], x[1]));
            let dots = vfmaq_f32(vmulq_f32(low, block.scale[0]), high, block.scale[1]);
            return vfmaq_f32(sum, dots, vdupq_n_f32(meta.scale));
        }
        // The words of Q8_0 are signed here, so nothing is too large.
        let start = match F::BIAS_SHIFT {
            Some(shift) if !matches!(F::TY, GgmlType::Q8_0) => meta.neg_sum << shift,
            _ => 0,
        };
        let dots = dot(dot(vdupq_n_s32(start), block.w[0], x[0]), block.w[1], x[1]);
        let sum = if F::HAS_MIN { vfmaq_f32(sum, block.min, vdupq_n_f32(meta.sum)) } else { sum };
        vfmaq_f32(sum, vcvtq_f32_s32(dots), vmulq_f32(block.scale[0], vdupq_n_f32(meta.scale)))
    }
}

/// `sums` plus the products of four words with four words of a row. The bytes of `w` count as signed.
///
/// # Safety
/// The processor has these instructions.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot(mut sums: int32x4_t, w: [uint8x16_t; 4], x: int8x16_t) -> int32x4_t {
    // SAFETY: the instructions are enabled here and touch the named registers only.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w0:v}.16b, {x:v}.4b[0]",
            "sdot {sums:v}.4s, {w1:v}.16b, {x:v}.4b[1]",
            "sdot {sums:v}.4s, {w2:v}.16b, {x:v}.4b[2]",
            "sdot {sums:v}.4s, {w3:v}.16b, {x:v}.4b[3]",
            sums = inout(vreg) sums,
            w0 = in(vreg) w[0],
            w1 = in(vreg) w[1],
            w2 = in(vreg) w[2],
            w3 = in(vreg) w[3],
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Writes a row's results.
///
/// # Safety
/// The promises of [`tile`], for one row.
#[inline(always)]
unsafe fn put(out: Out, row: usize, sums: Sums) {
    // SAFETY: the row's outputs exist.
    unsafe {
        if out.n_cols < TILE_ROWS {
            let mut results = [0.0; TILE_ROWS];
            for (col, sum) in sums.into_iter().enumerate() {
                vst1q_f32(results.as_mut_ptr().add(4 * col), sum);
            }
            out.put(row, &results);
            return;
        }
        for (col, sum) in sums.into_iter().enumerate() {
            let at = out.start.add(row * out.row_stride + 4 * col);
            let sum = match out.epilogue {
                Epilogue::Store => sum,
                Epilogue::Add => vaddq_f32(vld1q_f32(at), sum),
            };
            vst1q_f32(at, sum);
        }
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn f16s(at: *const u8, col: usize) -> float32x4_t {
    let wide: float32x4_t;
    // SAFETY: 64 bytes of a tile; the instruction is part of every aarch64 CPU and touches registers only.
    unsafe {
        let halves = vld1_u8(at.add(8 * col));
        asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = lateout(vreg) wide,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}

/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn u8s(at: *const u8, col: usize) -> float32x4_t {
    // SAFETY: 32 bytes of a tile.
    unsafe {
        let bytes = vcreate_u8(u64::from(at.add(4 * col).cast::<u32>().read_unaligned()));
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))))
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn i8s(at: *const u8, col: usize) -> float32x4_t {
    // SAFETY: 32 bytes of a tile.
    unsafe {
        let bytes = vcreate_s8(u64::from(at.add(4 * col).cast::<u32>().read_unaligned()));
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
    }
}
