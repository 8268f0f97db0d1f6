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
mod lanes;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;

pub(crate) use lanes::{LANES, Simd};

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
