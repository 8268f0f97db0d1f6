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

/// Whether queries see keys that stand behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// They do not: what a token is does not depend on later ones.
    Hidden,
    /// They do, to the end of their row, which then is a whole text.
    Seen,
}

/// What attention needs to know besides the layout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionParams<'a> {
    /// Query heads, a multiple of the layer's KV heads; query head `h` reads KV head `h / (n_heads / n_kv_heads)`.
    pub n_heads: usize,
    /// Factor on the scores, usually `1 / √k_dim`.
    pub scale: f32,
    /// Key `j` is seen from query `i` only if it is less than so far from it.
    pub window: Option<usize>,
    /// Whether it is seen where `j > i`.
    pub ahead: Ahead,
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

    /// Behind the last position that a query at `position` sees, in a row that ends at `row_end`.
    pub(super) fn seen_end(&self, position: usize, row_end: usize) -> usize {
        match self.ahead {
            Ahead::Hidden => position + 1,
            Ahead::Seen => self.window.map_or(row_end, |window| row_end.min(position.saturating_add(window))),
        }
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
    /// The position behind the row's last.
    pub(super) row_end: usize,
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
