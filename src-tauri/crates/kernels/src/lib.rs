//! CPU arithmetic on slices: quantised matrix products, paged attention and the small operations of a
//! transformer, for x86-64 and aarch64, with the instruction set chosen at run time.
//!
//! It does **not** know requests, models, files or GGUF metadata, and it does not depend on candle.
//! Its API is safe: every operation takes whole slices, is called from one thread, and splits itself over
//! the workers of a [`threads::Threads`].
//!
//! The numerics rule: a row's bits depend on that row's input only, never on the other rows of a call, on
//! chunking or on the thread count. Threads split outputs, never the inner dimension.
//!
//! Read [`weights`] first (with a drawing of the packed layout), then [`matmul`].

/// Moves by hand whenever a change here or in the decoder moves the bits of a result: stored KV of another revision
/// is another model's.
pub const NUMERICS_REV: u32 = 3;

pub mod isa;
pub mod threads;

pub mod ggml;
pub mod weights;

pub mod activations;
pub mod matmul;

pub mod experts;

pub mod attention;
pub mod kv;
pub mod ops;

pub mod recurrent;
pub mod state;

pub mod softmax;

mod aligned;
mod huge_pages;
mod placement;
#[cfg(test)]
mod testing;

mod simd;
mod vmath;
