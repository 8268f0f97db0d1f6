//! Models on a GPU, in candle's operations; tests run the same code on candle's CPU device, against the kernels.
//!
//! ```text
//!                cpu/                               gpu/
//!  weights       packed tiles                       candle's quantised tensors on the device
//!  pool          mapped memory, read in place       one buffer on the device
//!  attention     paged, fused                       gather by block table, then dense, or a fused kernel of candle's
//!  shared        plan, file, checks of a step, its layout in chunks, rotations, the order of operations
//! ```
//!
//! Read `backend.rs` first. What the device does to the pool and between candle's operations is in `kv_pool.rs` and
//! `ops.rs`: each operation has a form for the CPU, which tests run, and one for Metal.
//! Bits differ from the kernels': sums run in another order. How far is held by `tests.rs`.

pub(crate) mod able;
pub(crate) mod device;
pub(crate) mod verdict;

#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod attention;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod backend;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod kv_pool;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod load;
#[cfg(all(feature = "metal", target_os = "macos"))]
mod metal;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod one_line;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod ops;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod part;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod proof;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod sdpa;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod shaders;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod tiles;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod trust;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod weights;

#[cfg(test)]
mod tests;
