//! The lanes and what an instruction set can do with them.
#![allow(unsafe_code)]

/// Lanes in a [`Simd::V`].
pub(crate) const LANES: usize = 16;

/// Sixteen f32 lanes in the registers of one instruction set.
///
/// # Safety
/// Every function requires the instruction set of the implementing type, and pointers that are valid for
/// the lanes read or written (sixteen unless stated); no alignment is needed.
#[expect(clippy::missing_safety_doc, reason = "said once, for all functions")]
pub(crate) trait Simd: Copy + 'static {
    /// The lanes.
    type V: Copy;

    /// Rows that a matrix kernel should hold in registers: 8 where sixteen lanes are one of 32 registers.
    const ROWS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// From half precision.
    unsafe fn load_f16(p: *const u16) -> Self::V;
    /// One half-precision value in every lane.
    unsafe fn splat_f16(p: *const u16) -> Self::V;
    /// To half precision, round to nearest even.
    unsafe fn store_f16(p: *mut u16, v: Self::V);
    /// From signed bytes.
    unsafe fn load_i8(p: *const i8) -> Self::V;
    /// From 8 bytes of two offset nibbles each, sixteen values −8..7 in memory order, the low nibble first.
    unsafe fn load_nibbles(p: *const u8) -> Self::V;

    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`; one rounding where the instruction set has it.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` when one of the two is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` when one of the two is not a number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `p · 2^n` for integral `n` in −126..=127.
    unsafe fn scale_by_power(p: Self::V, n: Self::V) -> Self::V;
    /// `v`, but `other` in the lanes where `x < limit`.
    unsafe fn replace_below(x: Self::V, limit: Self::V, v: Self::V, other: Self::V) -> Self::V;
    /// `v` in lanes `lo..hi`, `other` in the rest.
    unsafe fn keep_range(v: Self::V, lo: usize, hi: usize, other: Self::V) -> Self::V;
    /// Sum of the lanes, always by the same tree: lanes 8 apart, then 4, 2 and 1.
    unsafe fn sum(v: Self::V) -> f32;
    /// The largest lane.
    unsafe fn max_lane(v: Self::V) -> f32;
    /// Asks for the cache line at `p`, which may be any address, to come to the second cache: the first takes
    /// fewer lines at a time (11 GB/s against 20 in runs of 4 KiB with one thread of a Zen 4).
    unsafe fn prefetch(p: *const u8);

    /// Writes the transpose of the 16 × 16 values at `from` to 16 runs of 16, each `stride` values behind the last.
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize);

    /// Zero in every lane.
    #[inline(always)]
    unsafe fn zero() -> Self::V {
        // SAFETY: as the caller promises.
        unsafe { Self::splat(0.0) }
    }
}
