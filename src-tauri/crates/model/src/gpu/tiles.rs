//! Which slots of the pool the queries of a chunk see: the chunk cut into tiles that are computed in one go.
//!
//! ```text
//!  rows of a chunk      prefill A (300 tokens)          decodes B C D          decode E, far longer
//!  tiles                [A 0..256] [A 256..300]         [B C D], padded        [E]
//!                        one row, many queries           one query a row
//! ```
//!
//! A tile reads each key that one of its queries sees exactly once; slots that pad a shorter row are
//! [`NO_SLOT`] and read as zeros.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use kernels::attention::AttentionRow;

/// Stands for no slot: reads as zeros.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// Scores and gathered values of one tile, each: 64 MiB in f32. One query's are never cut.
const MAX_VALUES: usize = 1 << 24;

/// How large a tile may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileLimits {
    /// Scores a query and key have.
    n_heads: usize,
    /// Values of a slot's key and value.
    slot_values: usize,
    max_values: usize,
}

/// What the queries of a chunk see in one layer group.
pub(super) struct Tiles {
    pub(super) tiles: Vec<Tile>,
}

/// Queries that are computed in one go: `n_rows` rows of `n_queries` each.
pub(super) struct Tile {
    /// The queries' tokens in the chunk.
    pub(super) tokens: Range<usize>,
    pub(super) n_rows: usize,
    pub(super) n_queries: usize,
    /// Slots that each row reads, padded to the longest row's.
    pub(super) n_seen: usize,
    /// How many of them each row sees.
    pub(super) row_seen: Vec<usize>,
    /// `[n_rows × n_seen]`, on the device.
    pub(super) slots: Tensor,
    /// Whether every query sees all slots up to its own: no window ends within the tile.
    pub(super) is_causal: bool,
    /// Added to the scores, `[n_rows, 1, n_queries, n_seen]`; absent when every query sees all slots.
    pub(super) mask: Option<Tensor>,
}

/// A tile before it goes to the device: the numbers alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cut {
    tokens: Range<usize>,
    n_queries: usize,
    rows: Vec<SeenRow>,
}

/// A row's part of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SeenRow {
    row_idx: usize,
    /// Position of its first query.
    position: usize,
    /// The first position that this query sees.
    first_seen: usize,
    n_seen: usize,
}

impl TileLimits {
    pub(super) fn new(n_heads: usize, slot_values: usize) -> TileLimits {
        TileLimits { n_heads, slot_values, max_values: MAX_VALUES }
    }

    #[cfg(test)]
    pub(super) fn at_most(self, max_values: usize) -> TileLimits {
        TileLimits { max_values, ..self }
    }
}

impl Tiles {
    /// Cut `rows`, whose layer group looks back through `window`.
    pub(super) fn new(
        rows: &[AttentionRow<'_>],
        window: Option<usize>,
        block_tokens: usize,
        limits: TileLimits,
        device: &Device,
    ) -> Result<Tiles> {
        let cuts = cut(rows, window, limits);
        let tile = |one: &Cut| one.on_device(rows, window, block_tokens, device);
        Ok(Tiles { tiles: cuts.iter().map(tile).collect::<Result<_>>()? })
    }
}

fn cut(rows: &[AttentionRow<'_>], window: Option<usize>, limits: TileLimits) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = Vec::new();
    let mut n_before = 0;
    for (row_idx, row) in rows.iter().enumerate() {
        let mut done = 0;
        while done < row.n_tokens {
            let position = row.start + done;
            let first_seen = window.map_or(0, |window| (position + 1).saturating_sub(window));
            let n_keys = |n_queries: usize| position + n_queries - first_seen;
            // Fewer queries see fewer keys: halving ends with a tile that fits, or with one query.
            let mut n_queries = row.n_tokens - done;
            while n_queries > 1 && limits.n_heads * n_queries * n_keys(n_queries) > limits.max_values {
                n_queries = n_queries.div_ceil(2);
            }
            let seen = SeenRow { row_idx, position, first_seen, n_seen: n_keys(n_queries) };
            let tokens = n_before + done..n_before + done + n_queries;
            match cuts.last_mut() {
                Some(last) if last.takes(&seen, n_queries, limits) => {
                    last.tokens.end = tokens.end;
                    last.rows.push(seen);
                }
                _ => cuts.push(Cut { tokens, n_queries, rows: vec![seen] }),
            }
            done += n_queries;
        }
        n_before += row.n_tokens;
    }
    cuts
}

impl Cut {
    fn n_seen(&self) -> usize {
        self.rows.iter().map(|row| row.n_seen).max().unwrap_or(0)
    }

    /// Whether one more row of a single query belongs here: at most half of what is then read is padding.
    fn takes(&self, row: &SeenRow, n_queries: usize, limits: TileLimits) -> bool {
        let n_rows = self.rows.len() + 1;
        let padded = n_rows * self.n_seen().max(row.n_seen);
        let seen: usize = self.rows.iter().map(|row| row.n_seen).sum::<usize>() + row.n_seen;
        self.n_queries == 1
            && n_queries == 1
            && padded <= 2 * seen
            && padded * limits.slot_values.max(limits.n_heads) <= limits.max_values
    }

    fn on_device(
        &self,
        rows: &[AttentionRow<'_>],
        window: Option<usize>,
        block_tokens: usize,
        device: &Device,
    ) -> Result<Tile> {
        let (n_rows, n_queries, n_seen) = (self.rows.len(), self.n_queries, self.n_seen());
        let mut slots = Vec::with_capacity(n_rows * n_seen);
        for seen in &self.rows {
            let row = &rows[seen.row_idx];
            let positions = seen.first_seen..seen.first_seen + seen.n_seen;
            slots.extend(positions.map(|position| slot_of(row, position, block_tokens)));
            slots.resize(slots.len() + n_seen - seen.n_seen, NO_SLOT);
        }
        let is_causal = self.rows.iter().all(|row| {
            let last = row.position + n_queries - 1;
            window.is_none_or(|window| (last + 1).saturating_sub(window) <= row.first_seen)
        });
        let is_masked = n_queries > 1 || self.rows.iter().any(|row| row.n_seen < n_seen);
        let mask = is_masked.then(|| self.mask(window)).map(|mask| {
            let shape = (n_rows, 1, n_queries, n_seen);
            Tensor::from_vec(mask, shape, device)
        });
        Ok(Tile {
            tokens: self.tokens.clone(),
            n_rows,
            n_queries,
            n_seen,
            row_seen: self.rows.iter().map(|row| row.n_seen).collect(),
            slots: Tensor::from_vec(slots, n_rows * n_seen, device)?,
            is_causal,
            mask: mask.transpose()?,
        })
    }

    /// 0 where a query sees a slot, −∞ elsewhere; `[n_rows, n_queries, n_seen]`.
    fn mask(&self, window: Option<usize>) -> Vec<f32> {
        let n_seen = self.n_seen();
        let mut mask = vec![f32::NEG_INFINITY; self.rows.len() * self.n_queries * n_seen];
        let queries = self.rows.iter().flat_map(|row| (0..self.n_queries).map(move |query| (row, query)));
        for ((row, query), mask) in queries.zip(mask.chunks_exact_mut(n_seen)) {
            let position = row.position + query;
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window)).max(row.first_seen);
            mask[first - row.first_seen..position + 1 - row.first_seen].fill(0.0);
        }
        mask
    }
}

/// Where the key and value at `position` lie in the pool.
pub(super) fn slot_of(row: &AttentionRow<'_>, position: usize, block_tokens: usize) -> u32 {
    let block = row.blocks[position / block_tokens - row.first_block];
    block * block_tokens as u32 + (position % block_tokens) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TileLimits = TileLimits { n_heads: 4, slot_values: 8, max_values: 4096 };

    fn row(start: usize, n_tokens: usize) -> AttentionRow<'static> {
        AttentionRow { blocks: &[3, 1, 4, 0, 5], first_block: 0, start, n_tokens }
    }

    /// Queries, keys and rows of each tile.
    fn check(rows: &[AttentionRow<'_>], window: Option<usize>, want: &[(usize, usize, usize)]) {
        let cuts = cut(rows, window, LIMITS);
        let got: Vec<_> = cuts.iter().map(|p| (p.n_queries, p.n_seen(), p.rows.len())).collect();
        assert_eq!(got, want);
        let mut end = 0;
        for one in &cuts {
            assert_eq!((one.tokens.start, one.tokens.len()), (end, one.n_queries * one.rows.len()));
            end = one.tokens.end;
        }
        assert_eq!(end, rows.iter().map(|row| row.n_tokens).sum::<usize>());
    }

    #[test]
    fn long_rows_are_cut_and_decodes_of_like_length_join() {
        check(&[row(0, 10)], None, &[(10, 10, 1)]);
        check(&[row(0, 40)], None, &[(20, 20, 1), (20, 40, 1)]);
        check(&[row(60, 1), row(50, 1), row(70, 1)], None, &[(1, 71, 3)]);
        check(&[row(0, 1), row(0, 1), row(70, 1)], None, &[(1, 1, 2), (1, 71, 1)]);
        check(&[row(0, 2), row(1, 1), row(2, 1), row(1, 2)], None, &[(2, 2, 1), (1, 3, 2), (2, 3, 1)]);
    }

    #[test]
    fn a_window_bounds_what_is_read() {
        check(&[row(70, 4)], Some(8), &[(4, 11, 1)]);
        check(&[row(70, 1), row(3, 1)], Some(8), &[(1, 8, 2)]);
    }

    #[test]
    fn one_query_is_never_cut_however_much_it_sees() {
        let limits = TileLimits { max_values: 1, ..LIMITS };
        let cuts = cut(&[row(60, 3)], None, limits);
        assert_eq!(cuts.len(), 3);
        assert!(cuts.iter().all(|one| one.n_queries == 1 && one.rows.len() == 1));
    }

    #[test]
    fn slots_follow_the_block_table_and_padding_has_none() {
        let rows = [row(17, 1), row(12, 1)];
        let cuts = cut(&rows, Some(4), LIMITS);
        let tile = cuts[0].on_device(&rows, Some(4), 16, &Device::Cpu).unwrap();
        let slots = tile.slots.to_vec1::<u32>().unwrap();
        assert_eq!(slots, [3 * 16 + 14, 3 * 16 + 15, 16, 17, 48 + 9, 48 + 10, 48 + 11, 48 + 12]);
        assert!(tile.mask.is_none() && tile.is_causal);

        let rows = [row(2, 1), row(3, 1)];
        let tile = cut(&rows, None, LIMITS)[0].on_device(&rows, None, 16, &Device::Cpu).unwrap();
        assert_eq!(tile.slots.to_vec1::<u32>().unwrap(), [48, 49, 50, NO_SLOT, 48, 49, 50, 51]);
        let mask = tile.mask.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(
            mask.iter().map(|x| *x == 0.0).collect::<Vec<_>>(),
            [true, true, true, false, true, true, true, true]
        );
    }

    #[test]
    fn a_window_that_ends_within_a_tile_is_not_causal() {
        let causal = |row: AttentionRow<'_>, window| {
            cut(&[row], window, LIMITS)[0].on_device(&[row], window, 16, &Device::Cpu).unwrap().is_causal
        };
        assert!(causal(row(0, 9), None) && causal(row(0, 9), Some(9)) && causal(row(60, 1), Some(4)));
        assert!(!causal(row(0, 9), Some(8)) && !causal(row(60, 2), Some(4)));
    }
}
