//! One call of attention, cut into pieces for workers.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use crate::isa::Isa;
use crate::kv::{AttentionRow, KvArena, KvLayer, TILE};
use crate::threads::SharedMut;

/// Positions in a partition: a constant of the numerics.
pub(super) const PARTITION: usize = 128;
pub(super) const PARTITION_TILES: usize = PARTITION / TILE;

/// Distance of two rows of scores: a tile more than is read, because tiles may be computed in pairs.
pub(super) const SCORE_STRIDE: usize = PARTITION + TILE;

/// What attention needs to know besides the layout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionParams<'a> {
    /// Query heads, a multiple of the layer's KV heads; query head `h` reads KV head `h / (n_heads / n_kv_heads)`.
    pub n_heads: usize,
    /// Factor on the scores, usually `1 / √k_dim`.
    pub scale: f32,
    /// Key `j` is seen from query `i` when `j <= i` and, with a window, `i - j < window`.
    pub window: Option<usize>,
    /// Scores become `cap · tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// A score for each query head that takes its share of the weight and has no value: `[n_heads]`. It is neither
    /// scaled nor capped.
    pub sinks: Option<&'a [f32]>,
}

impl AttentionParams<'_> {
    /// The first position that a query at `position` sees.
    pub(super) fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// A tile of a row's queries against one KV head.
pub(super) struct Item {
    /// Index of the row.
    pub(super) row: usize,
    /// Packed index of the tile's first token.
    pub(super) token: usize,
    /// Absolute position of that token.
    pub(super) position: usize,
    pub(super) n_tokens: usize,
    pub(super) kv_head: usize,
    /// Partitions that the tile sees.
    pub(super) parts: Range<usize>,
    /// Where the item's partial results lie, when several units share it.
    pub(super) partials: Option<usize>,
    /// Units that have not ended.
    pub(super) n_running: AtomicUsize,
}

/// The operands of one call, as the workers see them.
pub(super) struct Job<'a> {
    pub(super) isa: Isa,
    pub(super) arena: &'a KvArena,
    pub(super) layer: &'a KvLayer,
    pub(super) params: &'a AttentionParams<'a>,
    pub(super) rows: &'a [AttentionRow<'a>],
    pub(super) q: &'a [f32],
    pub(super) out: SharedMut<'a, f32>,
    pub(super) partials: SharedMut<'a, f32>,
}
