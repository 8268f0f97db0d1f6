//! The sixteen lanes in four registers of aarch64's Advanced SIMD.
#![allow(unsafe_code)]

use super::lanes::Simd;
use std::arch::aarch64::*;
use std::arch::asm;

/// Advanced SIMD, part of every aarch64 target.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

type V = [float32x4_t; 4];

/// The intrinsics of half precision are not stable; these instructions are in every aarch64 CPU.
///
/// # Safety
/// None beyond the target's: every aarch64 CPU has the instruction.
#[inline(always)]
unsafe fn f16_to_f32(half: uint16x4_t) -> float32x4_t {
    // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
    unsafe {
        let out: float32x4_t;
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) out, in(vreg) half, options(pure, nomem, nostack, preserves_flags));
        out
    }
}

/// As [`f16_to_f32`], the other way.
///
/// # Safety
/// None beyond the target's: every aarch64 CPU has the instruction.
#[inline(always)]
unsafe fn f32_to_f16(x: float32x4_t) -> uint16x4_t {
    // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
    unsafe {
        let out: uint16x4_t;
        asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) out, in(vreg) x, options(pure, nomem, nostack, preserves_flags));
        out
    }
}

/// Sixteen signed bytes as floats.
///
/// # Safety
/// None beyond the target's.
#[inline(always)]
unsafe fn from_i8(bytes: int8x16_t) -> V {
    // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
    unsafe {
        let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
        [
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
            vcvtq_f32_s32(vmovl_high_s16(low)),
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
            vcvtq_f32_s32(vmovl_high_s16(high)),
        ]
    }
}

/// Offset nibbles, still one to a byte, as −8..7.
///
/// # Safety
/// None beyond the target's.
#[inline(always)]
unsafe fn centre(nibbles: uint8x16_t) -> int8x16_t {
    // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
    unsafe { vsubq_s8(vreinterpretq_s8_u8(nibbles), vdupq_n_s8(8)) }
}

/// `op` on each quarter.
///
/// # Safety
/// Those of `op`.
#[inline(always)]
unsafe fn zip(a: V, b: V, op: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> V {
    [op(a[0], b[0]), op(a[1], b[1]), op(a[2], b[2]), op(a[3], b[3])]
}

impl Simd for Neon {
    type V = V;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize) {
        for (row, column) in
            (0..16).step_by(4).flat_map(|row| (0..16).step_by(4).map(move |column| (row, column)))
        {
            // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
            unsafe {
                let (from, to) = (from.add(16 * row + column), to.add(column * stride + row));
                let [a, b] = [vld1q_f32(from), vld1q_f32(from.add(16))];
                let [c, d] = [vld1q_f32(from.add(32)), vld1q_f32(from.add(48))];
                let (ab, cd) = ([vtrn1q_f32(a, b), vtrn2q_f32(a, b)], [vtrn1q_f32(c, d), vtrn2q_f32(c, d)]);
                for i in 0..2 {
                    let low = vcombine_f32(vget_low_f32(ab[i]), vget_low_f32(cd[i]));
                    let high = vcombine_f32(vget_high_f32(ab[i]), vget_high_f32(cd[i]));
                    vst1q_f32(to.add(i * stride), low);
                    vst1q_f32(to.add((2 + i) * stride), high);
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
            vst1q_f32(p.add(8), v[2]);
            vst1q_f32(p.add(12), v[3]);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            let (a, b) = (vld1q_u16(p), vld1q_u16(p.add(8)));
            [
                f16_to_f32(vget_low_u16(a)),
                f16_to_f32(vget_high_u16(a)),
                f16_to_f32(vget_low_u16(b)),
                f16_to_f32(vget_high_u16(b)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn splat_f16(p: *const u16) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { [f16_to_f32(vdup_n_u16(p.read_unaligned())); 4] }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: V) {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            vst1_u16(p, f32_to_f16(v[0]));
            vst1_u16(p.add(4), f32_to_f16(v[1]));
            vst1_u16(p.add(8), f32_to_f16(v[2]));
            vst1_u16(p.add(12), f32_to_f16(v[3]));
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { from_i8(vld1q_s8(p)) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(p: *const u8) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            let bytes = vld1_u8(p);
            let (low, high) = (vand_u8(bytes, vdup_n_u8(15)), vshr_n_u8::<4>(bytes));
            from_i8(centre(vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high))))
        }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { zip(a, b, |a, b| vaddq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { zip(a, b, |a, b| vsubq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { zip(a, b, |a, b| vmulq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { zip(a, b, |a, b| vdivq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            [
                vfmaq_f32(c[0], a[0], b[0]),
                vfmaq_f32(c[1], a[1], b[1]),
                vfmaq_f32(c[2], a[2], b[2]),
                vfmaq_f32(c[3], a[3], b[3]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { zip(a, b, |a, b| vbslq_f32(vcgtq_f32(a, b), a, b)) }
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { zip(a, b, |a, b| vbslq_f32(vcltq_f32(a, b), a, b)) }
    }
    #[inline(always)]
    unsafe fn round(a: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { [vrndnq_f32(a[0]), vrndnq_f32(a[1]), vrndnq_f32(a[2]), vrndnq_f32(a[3])] }
    }
    #[inline(always)]
    unsafe fn scale_by_power(p: V, n: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            zip(p, n, |p, n| {
                let power = vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)));
                vmulq_f32(p, vreinterpretq_f32_s32(power))
            })
        }
    }
    #[inline(always)]
    unsafe fn replace_below(x: V, limit: V, v: V, other: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            let quarter = |i: usize| vbslq_f32(vcltq_f32(x[i], limit[i]), other[i], v[i]);
            [quarter(0), quarter(1), quarter(2), quarter(3)]
        }
    }
    #[inline(always)]
    unsafe fn keep_range(v: V, lo: usize, hi: usize, other: V) -> V {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            const LANE: [u32; 4] = [0, 1, 2, 3];
            let (lo, hi) = (vdupq_n_u32(lo.min(16) as u32), vdupq_n_u32(hi.min(16) as u32));
            let quarter = |i: usize| {
                let lane = vaddq_u32(vld1q_u32(LANE.as_ptr()), vdupq_n_u32(4 * i as u32));
                vbslq_f32(vandq_u32(vcgeq_u32(lane, lo), vcltq_u32(lane, hi)), v[i], other[i])
            };
            [quarter(0), quarter(1), quarter(2), quarter(3)]
        }
    }
    #[inline(always)]
    unsafe fn sum(v: V) -> f32 {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            let v = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            let v = vadd_f32(vget_low_f32(v), vget_high_f32(v));
            vget_lane_f32::<0>(v) + vget_lane_f32::<1>(v)
        }
    }
    #[inline(always)]
    unsafe fn max_lane(v: V) -> f32 {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(v[0], v[2]), vmaxq_f32(v[1], v[3]))) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: the trait's promises: pointers that are valid for the lanes; the instructions are in every aarch64 CPU.
        unsafe {
            asm!("prfm pldl2keep, [{0}]", in(reg) p, options(readonly, nostack, preserves_flags));
        }
    }
}
