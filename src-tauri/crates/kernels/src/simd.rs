//! Sixteen f32 lanes at a time: the few operations that attention and the small operations are written in.
//!
//! An algorithm is one `#[inline(always)]` function over [`Simd`]; [`simd_dispatch`] compiles it once for each
//! instruction set and picks one at run time. The lane count is the same everywhere, so the paged K tiles,
//! the order of every chain of additions and the shape of every reduction are too.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;

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

    /// Zero in every lane.
    #[inline(always)]
    unsafe fn zero() -> Self::V {
        // SAFETY: as the caller promises.
        unsafe { Self::splat(0.0) }
    }
}

/// Defines `unsafe fn name(isa, arguments…)` that runs `implementation::<S>(arguments…)` as compiled for `isa`.
///
/// The defined function is as unsafe as the implementation; the instruction set itself is safe, because an
/// [`crate::isa::Isa`] exists only on a CPU that has it.
macro_rules! simd_dispatch {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $imp:ident) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// The implementation's promises.
        $vis unsafe fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) {
            /// # Safety
            /// The CPU has these features; the implementation's promises.
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            unsafe fn avx512($($arg: $ty),*) {
                // SAFETY: the caller's promises; the features are enabled here.
                unsafe { $imp::<$crate::simd::avx512::Avx512>($($arg),*) }
            }
            /// # Safety
            /// The CPU has these features; the implementation's promises.
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: the caller's promises; the features are enabled here.
                unsafe { $imp::<$crate::simd::avx2::Avx2>($($arg),*) }
            }
            match isa.kind() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` of this kind exists only where the features do.
                $crate::isa::Kind::Avx512Vnni => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::isa::Kind::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: Advanced SIMD is part of every aarch64 target; the caller's promises for the rest.
                $crate::isa::Kind::NeonDotprod => unsafe { $imp::<$crate::simd::neon::Neon>($($arg),*) },
                // SAFETY: plain Rust; the caller's promises.
                _ => unsafe { $imp::<$crate::simd::scalar::Scalar>($($arg),*) },
            }
        }
    };
}
pub(crate) use simd_dispatch;
