//! The sixteen lanes in one AVX-512 register.
#![allow(unsafe_code)]

use super::lanes::Simd;
use std::arch::x86_64::*;

/// AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// The first and third quarter of each.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn even_quarters((a, b): (__m512, __m512)) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_shuffle_f32x4::<0x88>(a, b) }
}

/// The second and fourth quarter of each.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn odd_quarters((a, b): (__m512, __m512)) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_shuffle_f32x4::<0xdd>(a, b) }
}

impl Simd for Avx512 {
    type V = __m512;
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize) {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(16 * i));
            }
            // Four rows at a time: quarter q of `s[4 i + k]` has column 4 q + k of rows 4 i to 4 i + 3.
            let mut s = r;
            for i in (0..16).step_by(4) {
                let low = |a, b| _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
                let high = |a, b| _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
                let (a, b) = (low(r[i], r[i + 1]), low(r[i + 2], r[i + 3]));
                let (c, d) = (high(r[i], r[i + 1]), high(r[i + 2], r[i + 3]));
                s[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                s[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                s[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
                s[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
            }
            // Then the quarters of the four sets side by side: first the even and the odd ones of each two sets.
            for k in 0..4 {
                let (first, second) = ((s[k], s[4 + k]), (s[8 + k], s[12 + k]));
                let (a, c) = (even_quarters(first), even_quarters(second));
                let (b, d) = (odd_quarters(first), odd_quarters(second));
                _mm512_storeu_ps(to.add(k * stride), even_quarters((a, c)));
                _mm512_storeu_ps(to.add((4 + k) * stride), even_quarters((b, d)));
                _mm512_storeu_ps(to.add((8 + k) * stride), odd_quarters((a, c)));
                _mm512_storeu_ps(to.add((12 + k) * stride), odd_quarters((b, d)));
            }
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            _mm512_storeu_ps(p, v);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn splat_f16(p: *const u16) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_cvtph_ps(_mm256_set1_epi16(p.read_unaligned() as i16)) }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: __m512) {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            _mm256_storeu_si256(
                p.cast(),
                _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v),
            );
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(p: *const u8) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            let bytes = _mm_loadl_epi64(p.cast());
            let mask = _mm_set1_epi8(15);
            let mixed = _mm_unpacklo_epi8(
                _mm_and_si128(bytes, mask),
                _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask),
            );
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_sub_epi8(mixed, _mm_set1_epi8(8))))
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn scale_by_power(p: __m512, n: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_scalef_ps(p, n) }
    }
    #[inline(always)]
    unsafe fn replace_below(x: __m512, limit: __m512, v: __m512, other: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, limit), other) }
    }
    #[inline(always)]
    unsafe fn keep_range(v: __m512, lo: usize, hi: usize, other: __m512) -> __m512 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            let (below_lo, below_hi) = ((1u32 << lo.min(16)) - 1, (1u32 << hi.min(16)) - 1);
            _mm512_mask_mov_ps(other, (below_hi & !below_lo) as u16, v)
        }
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            let v = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        }
    }
    #[inline(always)]
    unsafe fn max_lane(v: __m512) -> f32 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            let v = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(p.cast());
        }
    }
}
