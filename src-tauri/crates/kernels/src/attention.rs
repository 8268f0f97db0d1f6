//! Attention over the paged pool: causal or in both directions, grouped queries, sliding windows, soft-caps, sinks, many rows at once.
//!
//! ```text
//!  positions   0        128       256       384                 keys are cut into partitions of 128 positions,
//!              │ part 0 │ part 1  │ part 2  │ …                 counted from position 0 of the sequence
//!  query i     │ m,l,acc│ m,l,acc │ m,l,acc │ ─▶ merged in order ─▶ acc / l
//! ```
//!
//! A partition's part of a query is its maximum score `m`, the sum `l` of the powers of 2 and the weighted sum
//! of values, each made by one chain of additions in the order of the keys. Keys that a query does not see
//! weigh exactly 0. So a query's bits depend on the query and on the keys and values at their positions alone:
//! however rows are cut into tiles of queries and tiles into work for threads, the same chains are added. A sink is
//! merged last, once.
//!
//! Many queries share each key: a tile of them is computed against K and V that were converted to f32 once;
//! few queries (decoding) read the pool's formats in place.
#![allow(unsafe_code)]

mod formats;
mod job;
mod kernels;
mod softmax;
mod unit;

pub use crate::kv::AttentionRow;
pub use job::{Ahead, AttentionParams};

use crate::isa::Isa;
use crate::kv::{KvArena, KvLayer};
use crate::threads::{SharedMut, Threads};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use job::{Item, Job, PARTITION};

/// Query rows (tokens × heads of one KV head) that share the conversion of K and V.
const TILE_ROWS: usize = 96;

/// Multiply-adds below which a second thread costs more than it gives.
const MIN_SPLIT: usize = 1 << 17;

/// Attention of every token of `rows` to the keys and values in the pool, its own included.
///
/// `q` is `[n_tokens, n_heads, k_dim]` and `out` `[n_tokens, n_heads, v_dim]`, row after row; the rows' keys and
/// values have been stored before.
///
/// # Panics
/// When the layer does not fit the arena, a row's table does not cover what its tokens see or names a block
/// that does not exist, the heads do not divide, a window is 0, or a slice has another length than the rows
/// or heads ask for.
#[expect(clippy::too_many_arguments, reason = "the operation's inputs, none of which belong together")]
pub fn attention(
    threads: &Threads,
    isa: Isa,
    arena: &KvArena,
    layer: &KvLayer,
    params: &AttentionParams<'_>,
    rows: &[AttentionRow<'_>],
    q: &[f32],
    out: &mut [f32],
) {
    check(arena, layer, params, rows, q, out);
    let plan = Plan::new(threads.n(), layer, params, rows);
    PARTIALS.with_borrow_mut(|partials| {
        if partials.len() < plan.partial_values {
            partials.resize(plan.partial_values, 0.0);
        }
        let job = Job {
            isa,
            arena,
            layer,
            params,
            rows,
            q,
            out: SharedMut::new(out),
            partials: SharedMut::new(partials),
        };
        let next = AtomicUsize::new(0);
        let work = |_worker: usize| {
            SCRATCH.with_borrow_mut(|scratch| {
                while let Some(unit) = plan.units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    job.run(&plan.items[unit.item], unit.parts.clone(), scratch);
                }
            });
        };
        if plan.units.len() > 1 && plan.n_multiplies >= MIN_SPLIT { threads.run(&work) } else { work(0) }
    });
}

thread_local! {
    /// A worker's buffers, kept because a step calls attention once for each layer.
    static SCRATCH: RefCell<unit::Scratch> = RefCell::default();
    /// The parts of items whose partitions are shared by workers.
    static PARTIALS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

fn check(
    arena: &KvArena,
    layer: &KvLayer,
    params: &AttentionParams<'_>,
    rows: &[AttentionRow<'_>],
    q: &[f32],
    out: &[f32],
) {
    layer.check(arena);
    let (n_heads, n_kv_heads) = (params.n_heads, layer.n_kv_heads);
    assert!(n_heads > 0 && n_heads.is_multiple_of(n_kv_heads), "{n_heads} heads over {n_kv_heads} KV heads");
    assert!(params.window != Some(0), "a window of 0 tokens");
    assert!(params.sinks.is_none_or(|sinks| sinks.len() == n_heads), "a sink for each of {n_heads} heads");
    rows.iter().for_each(|row| row.check(layer, arena, params.first_seen(row.start)));
    let n_tokens: usize = rows.iter().map(|row| row.n_tokens).sum();
    assert_eq!(q.len(), n_tokens * n_heads * layer.k_dim, "length of the queries");
    assert_eq!(out.len(), n_tokens * n_heads * layer.v_dim, "length of the output");
}

/// Some partitions of an item: what a worker takes at a time.
struct Unit {
    item: usize,
    parts: Range<usize>,
}

/// The work of one call, cut for the threads at hand.
struct Plan {
    items: Vec<Item>,
    units: Vec<Unit>,
    partial_values: usize,
    n_multiplies: usize,
}

impl Plan {
    fn new(
        n_threads: usize,
        layer: &KvLayer,
        params: &AttentionParams<'_>,
        rows: &[AttentionRow<'_>],
    ) -> Plan {
        let heads_per_kv = params.n_heads / layer.n_kv_heads;
        let tile_tokens = (TILE_ROWS / heads_per_kv).max(1);
        let mut items = Vec::new();
        let mut n_before = 0;
        for (row_idx, row) in rows.iter().enumerate() {
            for first in (0..row.n_tokens).step_by(tile_tokens) {
                let n_tokens = tile_tokens.min(row.n_tokens - first);
                let (position, row_end) = (row.start + first, row.start + row.n_tokens);
                let end = params.seen_end(position + n_tokens - 1, row_end);
                let parts = params.first_seen(position) / PARTITION..end.div_ceil(PARTITION);
                for kv_head in 0..layer.n_kv_heads {
                    items.push(Item {
                        row: row_idx,
                        token: n_before + first,
                        position,
                        n_tokens,
                        row_end,
                        kv_head,
                        parts: parts.clone(),
                        partials: None,
                        n_running: AtomicUsize::new(1),
                    });
                }
            }
            n_before += row.n_tokens;
        }
        let n_parts: usize = items.iter().map(|item| item.parts.len()).sum();
        let cost = |item: &Item| item.parts.len() * item.n_tokens;
        let n_multiplies =
            items.iter().map(cost).sum::<usize>() * heads_per_kv * PARTITION * (layer.k_dim + layer.v_dim);
        // The costliest first, so that no worker is left with a large one at the end.
        items.sort_by_key(|item| std::cmp::Reverse(cost(item)));

        let wanted = if n_threads == 1 { 1 } else { 4 * n_threads };
        let longest = if items.len() >= wanted { usize::MAX } else { n_parts.div_ceil(wanted).max(1) };
        let mut units = Vec::with_capacity(items.len().max(wanted));
        let mut partial_values = 0;
        for (idx, item) in items.iter_mut().enumerate() {
            let n_units = item.parts.len().div_ceil(longest);
            if n_units > 1 {
                item.partials = Some(partial_values);
                item.n_running = AtomicUsize::new(n_units);
                partial_values +=
                    item.parts.len() * unit::partial_len(item.n_tokens * heads_per_kv, layer.v_dim);
            }
            for start in item.parts.clone().step_by(longest.min(item.parts.len())) {
                units.push(Unit {
                    item: idx,
                    parts: start..item.parts.end.min(start.saturating_add(longest)),
                });
            }
        }
        Plan { items, units, partial_values, n_multiplies }
    }
}

impl Job<'_> {
    fn run(&self, item: &Item, parts: Range<usize>, scratch: &mut unit::Scratch) {
        // SAFETY: `check` has held that all that the item reads and writes exists. An item's outputs and a
        // partition's partial results are written by the one unit that has them; the last unit to end reads
        // the partial results of the others after the counter told that they were written.
        unsafe {
            unit::compute(self.isa, self, item, parts, scratch);
            if item.partials.is_some() && item.n_running.fetch_sub(1, Ordering::AcqRel) == 1 {
                unit::merge_partials(self.isa, self, item, scratch);
            }
        }
    }
}

#[cfg(test)]
mod tests;
