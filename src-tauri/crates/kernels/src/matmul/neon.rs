//! The kernel in NEON with the dot product instructions: a quarter of a line, the words of 4 rows, is one register,
//! and one instruction multiplies it with four activations.
//!
//! The intrinsics of these instructions are not stable yet, hence the assembly.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::format::{Format, readable, sub_blocks, with_format};
use super::out::{Epilogue, MAX_ROWS, Out};
use crate::activations::{Activations, Meta};
use crate::ggml::GgmlType;
use crate::weights::{E4M3_HALF, EXPANDED_INTEGERS, EXPANDED_SIGNS, Expanded, Scales, TILE_ROWS};

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
        let mut room = Expanded::new();
        for (block_idx, head, sub) in sub_blocks::<F>(tile, acts.n_in()) {
            let sub = readable::<F>(block_idx, head, sub, &mut room);
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
        let mut room = Expanded::new();
        for (block_idx, head, sub) in sub_blocks::<F>(tile, acts.n_in()) {
            let sub = readable::<F>(block_idx, head, sub, &mut room);
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
    min: [float32x4_t; 2],
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
        let no_min = [zero; 2];
        let (scale, min) = match F::CODING.scales {
            Scales::F16 => ([f16s(sub, col), zero], no_min),
            Scales::F16Min => ([f16s(sub, col), zero], [f16s(sub.add(64), col), zero]),
            Scales::U8Min => {
                let min = vnegq_f32(vmulq_f32(f16s(head.add(64), col), vcvtq_f32_u32(u8s(sub.add(32), col))));
                ([vmulq_f32(f16s(head, col), vcvtq_f32_u32(u8s(sub, col))), zero], [min, zero])
            }
            Scales::I8 => ([vmulq_f32(f16s(head, col), i8s(sub, col)), zero], no_min),
            Scales::I8Halves => {
                let d = f16s(head, col);
                ([vmulq_f32(d, i8s(sub, col)), vmulq_f32(d, i8s(sub.add(32), col))], no_min)
            }
            Scales::U4MinHalves => {
                let (d, dmin) = (f16s(head, col), f16s(head.add(64), col));
                let ((sc0, mn0), (sc1, mn1)) = (u4s(sub, col), u4s(sub.add(32), col));
                (
                    [vmulq_f32(d, sc0), vmulq_f32(d, sc1)],
                    [vnegq_f32(vmulq_f32(dmin, mn0)), vnegq_f32(vmulq_f32(dmin, mn1))],
                )
            }
            Scales::Head => ([f16s(head, col), zero], no_min),
            Scales::E8M0 => ([e8m0_half(u8s(sub, col)), zero], no_min),
            Scales::E4M3Halves => ([e4m3_half(u8s(sub, col)), e4m3_half(u8s(sub.add(32), col))], no_min),
            Scales::Blocks => {
                let d = vmulq_n_f32(f16s(sub, col), F::UNIT);
                let low = vmulq_f32(d, vcvtq_f32_u32(u8s(sub.add(64), col)));
                ([low, vmulq_f32(d, vcvtq_f32_u32(u8s(sub.add(96), col)))], no_min)
            }
        };
        let w = if F::IN_BLOCKS { expanded::<F>(sub, col) } else { words::<F>(sub.add(F::LINES + 16 * col)) };
        Block { w, scale, min }
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
        match F::CODING.low_bits {
            8 => {
                for (j, w) in w.as_flattened_mut().iter_mut().enumerate() {
                    *w = veorq_u8(vld1q_u8(lines.add(128 * j)), vdupq_n_u8(128));
                }
            }
            4 => {
                let [low, high] = &mut w;
                for (j, (low, high)) in low.iter_mut().zip(high).enumerate() {
                    let bytes = vld1q_u8(lines.add(64 * F::HIGH_LINES + 128 * j));
                    *low = looked_up::<F>(vandq_u8(bytes, vdupq_n_u8(15)));
                    *high = looked_up::<F>(vshrq_n_u8::<4>(bytes));
                }
            }
            _ => {
                for (i, w) in w.iter_mut().enumerate() {
                    let bytes = vld1q_u8(lines.add(64 * F::HIGH_LINES + 128 * i));
                    for (j, w) in w.iter_mut().enumerate() {
                        // A negative count shifts to the right.
                        *w = vandq_u8(vshlq_u8(bytes, vdupq_n_s8(-2 * j as i8)), vdupq_n_u8(3));
                    }
                }
            }
        }
        // Bits that go on top: of each line as many as there are words to it.
        let (n_bits, n_words) = F::HIGH_BITS;
        let mask = vdupq_n_u8(((1 << n_bits) - 1) << (F::CODING.low_bits % 8));
        for i in 0..F::HIGH_LINES / 2 {
            let bits = vld1q_u8(lines.add(128 * i));
            for j in 0..n_words {
                let up = F::CODING.low_bits as i8 - n_bits as i8 * j as i8;
                let w = &mut w.as_flattened_mut()[4 * i + j];
                *w = vorrq_u8(*w, vandq_u8(vshlq_u8(bits, vdupq_n_s8(up)), mask));
            }
        }
        w
    }
}

/// The words of rows `4 col..` of an expanded sub-block.
///
/// # Safety
/// The CPU has the instructions that the attribute names. `sub` is an [`Expanded`], `col` is below [`COLS`].
#[inline(always)]
unsafe fn expanded<F: Format>(sub: *const u8, col: usize) -> [[uint8x16_t; 4]; 2] {
    // SAFETY: reads what the caller promises.
    unsafe {
        let integers = sub.add(EXPANDED_INTEGERS + 32 * col);
        let signs = vld1q_u8(sub.add(EXPANDED_SIGNS + 16 * col));
        // The first byte of a row's word in all four.
        let byte = vreinterpretq_u8_u32(vld1q_u32([0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c].as_ptr()));
        let bits =
            [vreinterpretq_u8_u32(vdupq_n_u32(0x0804_0201)), vreinterpretq_u8_u32(vdupq_n_u32(0x8040_2010))];
        let mut w = [[vdupq_n_u8(0); 4]; 2];
        for i in 0..4 {
            let uint32x4x2_t(even, odd) = vld2q_u32(integers.add(256 * i).cast());
            // The signs of elements 8i.. of a row in each byte of its word.
            let signs = vqtbl1q_u8(signs, vaddq_u8(byte, vdupq_n_u8(i as u8)));
            for (j, word) in [even, odd].into_iter().enumerate() {
                let word = vreinterpretq_u8_u32(word);
                w.as_flattened_mut()[2 * i + j] = if F::SIGNS_BESIDE {
                    let minus = vtstq_u8(signs, bits[j]);
                    // The complement and one.
                    vsubq_u8(veorq_u8(word, minus), minus)
                } else {
                    veorq_u8(word, vdupq_n_u8(128))
                };
            }
        }
        w
    }
}

/// What nibbles stand for.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn looked_up<F: Format>(nibbles: uint8x16_t) -> uint8x16_t {
    let Some((plain, biased)) = F::BOOKS else { return nibbles };
    let book: *const u8 = if F::SIGNED { plain.as_ptr().cast() } else { biased.as_ptr() };
    // SAFETY: a book is 16 bytes.
    unsafe { vqtbl1q_u8(vld1q_u8(book), nibbles) }
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
            let low = vcvtq_f32_s32(dot(start::<F>(neg_sums[0]), block.w[0], x[0]));
            let high = vcvtq_f32_s32(dot(start::<F>(neg_sums[1]), block.w[1], x[1]));
            let mut dots = vfmaq_f32(vmulq_f32(low, block.scale[0]), high, block.scale[1]);
            if F::HAS_MIN {
                dots = vfmaq_f32(dots, block.min[0], vdupq_n_f32(-neg_sums[0] as f32));
                dots = vfmaq_f32(dots, block.min[1], vdupq_n_f32(-neg_sums[1] as f32));
            }
            return vfmaq_f32(sum, dots, vdupq_n_f32(meta.scale));
        }
        let dots = dot(dot(start::<F>(meta.neg_sum), block.w[0], x[0]), block.w[1], x[1]);
        let sum = if F::HAS_MIN { vfmaq_f32(sum, block.min[0], vdupq_n_f32(meta.sum)) } else { sum };
        vfmaq_f32(sum, vcvtq_f32_s32(dots), vmulq_f32(block.scale[0], vdupq_n_f32(meta.scale)))
    }
}

/// What the integer sums start at: minus what the bias of the weights adds to them.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn start<F: Format>(neg_sum: i32) -> int32x4_t {
    let start = match F::BIAS_SHIFT {
        // Signed words are that here, so nothing is too large.
        Some(shift) if !F::SIGNED => neg_sum << shift,
        _ => 0,
    };
    // SAFETY: no memory is touched.
    unsafe { vdupq_n_s32(start) }
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
            let sum = vmulq_f32(sum, vdupq_n_f32(out.scale));
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
unsafe fn u8s(at: *const u8, col: usize) -> uint32x4_t {
    // SAFETY: 32 bytes of a tile.
    unsafe {
        let bytes = vcreate_u8(u64::from(at.add(4 * col).cast::<u32>().read_unaligned()));
        vmovl_u16(vget_low_u16(vmovl_u8(bytes)))
    }
}

/// The low and the high nibbles of bytes.
///
/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn u4s(at: *const u8, col: usize) -> (float32x4_t, float32x4_t) {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = u8s(at, col);
        (vcvtq_f32_u32(vandq_u32(bytes, vdupq_n_u32(15))), vcvtq_f32_u32(vshrq_n_u32::<4>(bytes)))
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

/// Halves of the powers of two whose exponents `e` are.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn e8m0_half(e: uint32x4_t) -> float32x4_t {
    // SAFETY: no memory is touched.
    unsafe {
        // As bits of an f32, whose exponent is one less. The two smallest are below the normal range, where a bit of the
        // mantissa stands for them. Of both ways, the one that is right gives more.
        let normal = vshlq_n_s32::<23>(vsubq_s32(vreinterpretq_s32_u32(e), vdupq_n_s32(1)));
        let small = vreinterpretq_s32_u32(vminq_u32(e, vdupq_n_u32(2)));
        vreinterpretq_f32_s32(vmaxq_s32(normal, vshlq_s32(vdupq_n_s32(0x0020_0000), small)))
    }
}

/// Halves of floats of four bits of exponent and three of mantissa.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn e4m3_half(x: uint32x4_t) -> float32x4_t {
    // SAFETY: no memory is touched.
    unsafe { vmulq_f32(vreinterpretq_f32_u32(vshlq_n_u32::<20>(x)), vdupq_n_f32(E4M3_HALF)) }
}
