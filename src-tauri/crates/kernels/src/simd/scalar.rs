//! The sixteen lanes in an array: plain Rust for any CPU.
#![allow(unsafe_code)]

use super::lanes::{LANES, Simd};
use half::f16;
use std::array::from_fn;

/// No vector instructions but what the compiler finds.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

type V = [f32; LANES];

/// Folds lanes 8 apart, then 4, 2 and 1: the tree of every other implementation.
#[inline(always)]
fn fold(mut v: V, op: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] = op(v[i], v[i + half]);
        }
    }
    v[0]
}

impl Simd for Scalar {
    type V = V;
    const ROWS: usize = 1;

    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize) {
        for (row, column) in (0..LANES).flat_map(|row| (0..LANES).map(move |column| (row, column))) {
            // SAFETY: the trait's promise: the pointers are valid for the lanes of all runs.
            unsafe { to.add(column * stride + row).write(from.add(row * LANES + column).read()) };
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: the trait's promise: the pointer is valid for the lanes.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: the trait's promise: the pointer is valid for the lanes.
        unsafe {
            p.cast::<V>().write_unaligned(v);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> V {
        // SAFETY: the trait's promise: the pointer is valid for the lanes.
        unsafe {
            let bits = p.cast::<[u16; LANES]>().read_unaligned();
            bits.map(|bits| f16::from_bits(bits).to_f32_const())
        }
    }
    #[inline(always)]
    unsafe fn splat_f16(p: *const u16) -> V {
        // SAFETY: the trait's promise: the pointer is valid for the lanes.
        unsafe { [f16::from_bits(p.read_unaligned()).to_f32_const(); LANES] }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: V) {
        // SAFETY: the trait's promise: the pointer is valid for the lanes.
        unsafe {
            p.cast::<[u16; LANES]>().write_unaligned(v.map(|x| f16::from_f32_const(x).to_bits()));
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> V {
        // SAFETY: the trait's promise: the pointer is valid for the lanes.
        unsafe { p.cast::<[i8; LANES]>().read_unaligned().map(f32::from) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(p: *const u8) -> V {
        // SAFETY: the trait's promise: the pointer is valid for the lanes.
        unsafe {
            let bytes = p.cast::<[u8; LANES / 2]>().read_unaligned();
            from_fn(|i| f32::from((bytes[i / 2] >> (4 * (i % 2))) & 15) - 8.0)
        }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        // Two roundings: a fused one is a slow library call on CPUs without the instruction.
        from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn round(a: V) -> V {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn scale_by_power(p: V, n: V) -> V {
        from_fn(|i| p[i] * f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn replace_below(x: V, limit: V, v: V, other: V) -> V {
        from_fn(|i| if x[i] < limit[i] { other[i] } else { v[i] })
    }
    #[inline(always)]
    unsafe fn keep_range(v: V, lo: usize, hi: usize, other: V) -> V {
        from_fn(|i| if (lo..hi).contains(&i) { v[i] } else { other[i] })
    }
    #[inline(always)]
    unsafe fn sum(v: V) -> f32 {
        fold(v, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn max_lane(v: V) -> f32 {
        fold(v, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}
