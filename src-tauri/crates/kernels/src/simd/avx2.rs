//! The sixteen lanes in two AVX2 registers.
#![allow(unsafe_code)]

use super::lanes::Simd;
use std::arch::x86_64::*;

/// AVX2 with FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

type V = [__m256; 2];

/// Sixteen signed bytes as floats.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn from_i8(bytes: __m128i) -> V {
    // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
    unsafe {
        let low = _mm256_cvtepi8_epi32(bytes);
        let high = _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes));
        [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
    }
}

/// `2^n` by its exponent bits.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn power_of_two(n: __m256) -> __m256 {
    // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
    unsafe {
        let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    }
}

/// Writes the transpose of 8 × 8 values whose runs are 16 values apart to runs `stride` apart.
///
/// # Safety
/// The CPU has AVX2; the pointers are valid for the runs.
#[inline(always)]
unsafe fn transpose8(from: *const f32, to: *mut f32, stride: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut r = [_mm256_setzero_ps(); 8];
        for (i, row) in r.iter_mut().enumerate() {
            *row = _mm256_loadu_ps(from.add(16 * i));
        }
        // Four rows at a time: half h of `s[i + k]` has column 4 h + k of rows i to i + 3.
        let mut s = r;
        for i in [0, 4] {
            let (a, b) = (_mm256_unpacklo_ps(r[i], r[i + 1]), _mm256_unpacklo_ps(r[i + 2], r[i + 3]));
            let (c, d) = (_mm256_unpackhi_ps(r[i], r[i + 1]), _mm256_unpackhi_ps(r[i + 2], r[i + 3]));
            s[i] = _mm256_shuffle_ps::<0x44>(a, b);
            s[i + 1] = _mm256_shuffle_ps::<0xee>(a, b);
            s[i + 2] = _mm256_shuffle_ps::<0x44>(c, d);
            s[i + 3] = _mm256_shuffle_ps::<0xee>(c, d);
        }
        for k in 0..4 {
            let (first, second) = (s[k], s[4 + k]);
            _mm256_storeu_ps(to.add(k * stride), _mm256_permute2f128_ps::<0x20>(first, second));
            _mm256_storeu_ps(to.add((4 + k) * stride), _mm256_permute2f128_ps::<0x31>(first, second));
        }
    }
}

impl Simd for Avx2 {
    type V = V;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize) {
        for (row, column) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
            unsafe { transpose8(from.add(16 * row + column), to.add(column * stride + row), stride) };
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))]
        }
    }
    #[inline(always)]
    unsafe fn splat_f16(p: *const u16) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_cvtph_ps(_mm_set1_epi16(p.read_unaligned() as i16)); 2] }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: V) {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(p.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { from_i8(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(p: *const u8) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            let bytes = _mm_loadl_epi64(p.cast());
            let mask = _mm_set1_epi8(15);
            let mixed = _mm_unpacklo_epi8(
                _mm_and_si128(bytes, mask),
                _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask),
            );
            from_i8(_mm_sub_epi8(mixed, _mm_set1_epi8(8)))
        }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn round(a: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])]
        }
    }
    #[inline(always)]
    unsafe fn scale_by_power(p: V, n: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe { Self::mul(p, [power_of_two(n[0]), power_of_two(n[1])]) }
    }
    #[inline(always)]
    unsafe fn replace_below(x: V, limit: V, v: V, other: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            [
                _mm256_blendv_ps(v[0], other[0], _mm256_cmp_ps::<_CMP_LT_OQ>(x[0], limit[0])),
                _mm256_blendv_ps(v[1], other[1], _mm256_cmp_ps::<_CMP_LT_OQ>(x[1], limit[1])),
            ]
        }
    }
    #[inline(always)]
    unsafe fn keep_range(v: V, lo: usize, hi: usize, other: V) -> V {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            let (lo, hi) = (_mm256_set1_epi32(lo.min(16) as i32), _mm256_set1_epi32(hi.min(16) as i32));
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let inside = _mm256_andnot_si256(_mm256_cmpgt_epi32(lo, lane), _mm256_cmpgt_epi32(hi, lane));
            let first = _mm256_blendv_ps(other[0], v[0], _mm256_castsi256_ps(inside));
            let lane = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
            let inside = _mm256_andnot_si256(_mm256_cmpgt_epi32(lo, lane), _mm256_cmpgt_epi32(hi, lane));
            [first, _mm256_blendv_ps(other[1], v[1], _mm256_castsi256_ps(inside))]
        }
    }
    #[inline(always)]
    unsafe fn sum(v: V) -> f32 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            let v = _mm256_add_ps(v[0], v[1]);
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        }
    }
    #[inline(always)]
    unsafe fn max_lane(v: V) -> f32 {
        // SAFETY: the trait's promises: the instruction set, and pointers that are valid for the lanes.
        unsafe {
            let v = _mm256_max_ps(v[0], v[1]);
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
