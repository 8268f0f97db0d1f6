//! The small operations of a transformer on rows of f32: norms, rotary embedding, activations, sums.
//!
//! Each takes whole matrices, splits their rows over the workers when that pays, and computes a row from that
//! row alone.

pub mod activation;
pub mod gated_norm;
pub mod heads;
pub mod latent;
pub mod layer_norm;
pub mod norm;
pub mod rope;
pub mod softmax;

pub use activation::{
    add, add_to_rows, gelu_tanh_mul, mul, scale, scale_rows, sigmoid, sigmoid_mul, silu_mul, softcap,
};
pub use gated_norm::gated_rms_norm;
pub use heads::{HeadNorm, HeadPrep, prepare_heads, split_pairs};
pub use layer_norm::{LayerNorm, layer_norm};
pub use norm::{add_rms_norm, rms_norm, rms_norm_groups};
pub use rope::{Rope, RopePairs, RopeTable, Yarn};
pub use softmax::log_sum_exp;

use crate::threads::Threads;
use std::ops::Range;

/// Values that one worker should get at least, so that waking it pays.
const MIN_SHARE: usize = 8192;

/// Runs `f` over ranges of the `n_rows` rows of `width` values, on as many workers as pay.
pub(crate) fn over_rows(threads: &Threads, n_rows: usize, width: usize, f: impl Fn(Range<usize>) + Sync) {
    threads.for_each(n_rows, MIN_SHARE.div_ceil(width.max(1)).max(n_rows.div_ceil(4 * threads.n())), f);
}
