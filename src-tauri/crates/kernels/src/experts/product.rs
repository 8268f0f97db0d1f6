//! The products of a layer's experts with their tokens' rows.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::groups::{ExpertBuffers, Group, Groups};
use super::routing::Routes;
use crate::activations::{Activations, BlockRows, Form, Gate, Rounding, gate_values, square_positive};
use crate::isa::Isa;
use crate::matmul::{Epilogue, MAX_ROWS, Out, check_operands, chunk_rows, n_cols, run_tile};
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads, split};
use crate::weights::{TILE_ROWS, Weights};

/// Pieces of work that each worker should find, so that none waits long for the last.
const PIECES: usize = 4;
/// A tile's bytes cost about as much as so many rows.
const ROWS_OF_A_TILE: usize = 8;
/// Bytes of products that a worker keeps before it adds them up: a part of its second-level cache …
const SUM_BYTES: usize = 256 << 10;
/// … but at least this many tiles, because each time the hidden rows pass by once more.
const MIN_SUM_TILES: usize = 4;

/// The matrices of a layer's experts, one for each.
#[derive(Clone, Copy)]
pub struct ExpertMatrix<'a> {
    /// All of one shape, `[n_out, n_in]`.
    pub weights: &'a [Weights],
    /// What an expert's products are multiplied with: `[n_experts]`.
    pub scale: Option<&'a [f32]>,
    /// What is added to an expert's products then: `[n_experts, n_out]`.
    pub bias: Option<&'a [f32]>,
}

/// What is between an expert's first products and its last.
#[derive(Clone, Copy)]
pub enum Inner<'a> {
    /// `function(gate) · up`.
    Gated {
        /// What goes through the function: `[n_ff, n_embd]`.
        gate: ExpertMatrix<'a>,
        /// What is multiplied with the result: `[n_ff, n_embd]`.
        up: ExpertMatrix<'a>,
        /// The function.
        function: Gate,
    },
    /// `max(up, 0)²`.
    SquaredRelu {
        /// `[n_ff, n_embd]`
        up: ExpertMatrix<'a>,
    },
}

/// A layer's experts.
#[derive(Clone, Copy)]
pub struct Experts<'a> {
    /// From the rows to the hidden rows.
    pub inner: Inner<'a>,
    /// From the hidden rows to the result: `[n_embd, n_ff]`.
    pub down: ExpertMatrix<'a>,
}

/// Leads each row of `acts` through the experts that `routes` gives it, and writes the sum of what they say, each
/// times its weight, to `out`, `[n_rows, n_embd]`.
///
/// # Panics
/// When the shapes do not fit each other, a route leads to an expert that does not exist, or the rows are not in the
/// form that the weights need.
pub fn run(
    threads: &Threads,
    isa: Isa,
    experts: &Experts<'_>,
    acts: &Activations,
    routes: &Routes,
    buffers: &mut ExpertBuffers,
    out: &mut [f32],
) {
    let ExpertBuffers { groups, hidden } = buffers;
    assert_eq!(routes.n_tokens(), acts.n_rows(), "rows that are routed and rows");
    groups.fill(routes, experts.down.weights.len());
    if groups.all.is_empty() {
        return;
    }
    let n_ff = experts.down.check(groups, None);
    for matrix in experts.inner.matrices() {
        assert_eq!(matrix.weights.len(), experts.down.weights.len(), "experts");
        matrix.check(groups, Some(n_ff));
        groups.all.iter().for_each(|group| check_operands(&matrix.weights[group.expert], acts));
    }
    let form = Form::of(groups.all.iter().map(|group| &experts.down.weights[group.expert]));
    let rows = hidden.fill_by_blocks(form, groups.n_slots(), n_ff);
    fill_hidden(threads, isa, &experts.inner, acts, groups, &rows);
    add_up(threads, isa, &experts.down, hidden, groups, routes, out);
}

impl<'a> Inner<'a> {
    fn matrices(&self) -> impl Iterator<Item = &ExpertMatrix<'a>> {
        let (up, gate) = match self {
            Inner::Gated { gate, up, .. } => (up, Some(gate)),
            Inner::SquaredRelu { up } => (up, None),
        };
        gate.into_iter().chain([up])
    }
}

impl ExpertMatrix<'_> {
    /// Holds that the experts in `groups` have one shape with all that belongs to it, with `n_out` outputs if given,
    /// and returns the number of columns.
    fn check(&self, groups: &Groups, n_out: Option<usize>) -> usize {
        let first = &self.weights[groups.all[0].expert];
        let shape = (n_out.unwrap_or(first.n_out()), first.n_in());
        for group in &groups.all {
            let weights = &self.weights[group.expert];
            assert_eq!((weights.n_out(), weights.n_in()), shape, "shape of expert {}", group.expert);
        }
        let n_experts = self.weights.len();
        assert!(self.scale.is_none_or(|scale| scale.len() == n_experts), "scales of {n_experts} experts");
        let n_values = n_experts * shape.0;
        assert!(self.bias.is_none_or(|bias| bias.len() == n_values), "biases of {n_experts} experts");
        shape.1
    }

    /// Scales products of an expert and adds its bias: rows of `width` values, outputs from `first` on, of which
    /// `n_cols` exist.
    fn finish(
        &self,
        isa: Isa,
        expert: usize,
        (first, n_cols): (usize, usize),
        width: usize,
        rows: &mut [f32],
    ) {
        if self.scale.is_none() && self.bias.is_none() {
            return;
        }
        let n_out = self.weights[expert].n_out();
        let scale = self.scale.map_or(1.0, |scale| scale[expert]);
        let bias = self.bias.map(|bias| &bias[expert * n_out + first..][..n_cols]);
        for row in rows.chunks_exact_mut(width) {
            let row = &mut row[..n_cols];
            // SAFETY: slices of one length.
            unsafe { scale_and_add(isa, row, scale, bias) };
        }
    }
}

simd_dispatch! {
    /// # Safety
    /// The slices have one length.
    unsafe fn scale_and_add(x: &mut [f32], scale: f32, bias: Option<&[f32]>) = scale_and_add_on
}

/// `x = x · scale + bias`, rounded twice.
///
/// # Safety
/// The instruction set of `S`. The slices have one length.
#[inline(always)]
unsafe fn scale_and_add_on<S: Simd>(x: &mut [f32], scale: f32, bias: Option<&[f32]>) {
    let whole = x.len() / LANES * LANES;
    let bias_at = |c: usize| bias.map_or(0.0, |bias| bias[c]);
    // SAFETY: whole groups of lanes inside slices of one length.
    unsafe {
        for c in (0..whole).step_by(LANES) {
            let at = x.as_mut_ptr().add(c);
            let scaled = S::mul(S::load(at), S::splat(scale));
            S::store(at, bias.map_or(scaled, |bias| S::add(scaled, S::load(bias.as_ptr().add(c)))));
        }
    }
    for (c, x) in x.iter_mut().enumerate().skip(whole) {
        *x = *x * scale + bias_at(c);
    }
}

/// Some tiles of a group's matrices: what a worker takes at a time.
struct Unit {
    group: usize,
    tiles: Range<usize>,
}

/// The work on all groups, the costliest pieces first, so that no worker is left with a large one at the end.
fn units(n_workers: usize, groups: &[Group], n_tiles: usize) -> Vec<Unit> {
    let cost = |group: &Group| n_tiles * (group.slots.len() + ROWS_OF_A_TILE);
    let share = groups.iter().map(cost).sum::<usize>().div_ceil(PIECES * n_workers);
    let mut units = Vec::with_capacity(groups.len() + 2 * PIECES * n_workers);
    for (group_idx, group) in groups.iter().enumerate() {
        let n_parts = if n_workers == 1 { 1 } else { cost(group).div_ceil(share).min(n_tiles) };
        let part = |part: usize| Unit { group: group_idx, tiles: split(n_tiles, n_parts, part) };
        units.extend((0..n_parts).map(part));
    }
    // Stable: of equal pieces the neighbours in memory follow each other.
    units.sort_by_key(|unit| {
        std::cmp::Reverse(unit.tiles.len() * (groups[unit.group].slots.len() + ROWS_OF_A_TILE))
    });
    units
}

thread_local! {
    /// A worker's buffers, kept because a step has a call for each layer.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// What a worker has in hand.
struct Scratch {
    /// The rows of a group.
    rows: Activations,
    /// Which group's, from which of its rows on.
    held: Option<(usize, usize)>,
    /// Products of a tile, `[n_rows, 32]`, and what becomes of them.
    gate: Vec<f32>,
    up: Vec<f32>,
    values: Vec<f32>,
    /// Products of some tiles for all slots.
    products: Vec<f32>,
}

impl Scratch {
    fn new() -> Scratch {
        let tile = || vec![0.0; MAX_ROWS * TILE_ROWS];
        Scratch {
            rows: Activations::new(Rounding::default()),
            held: None,
            gate: tile(),
            up: tile(),
            values: tile(),
            products: Vec::new(),
        }
    }
}

/// Fills the hidden rows of all slots.
fn fill_hidden(
    threads: &Threads,
    isa: Isa,
    inner: &Inner<'_>,
    acts: &Activations,
    groups: &Groups,
    hidden: &BlockRows<'_>,
) {
    let form = Form::of(inner.matrices().flat_map(|matrix| {
        let weights = |group: &Group| &matrix.weights[group.expert];
        groups.all.iter().map(weights)
    }));
    let some = inner.matrices().next().map(|matrix| &matrix.weights[groups.all[0].expert]);
    let units = units(threads.n(), &groups.all, some.map_or(0, Weights::n_tiles));
    let next = AtomicUsize::new(0);
    let work = |_worker: usize| {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.held = None;
            while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                let group = &groups.all[unit.group];
                let chunk = chunk_rows(acts);
                for first in group.slots.clone().step_by(chunk) {
                    let slots = first..group.slots.end.min(first + chunk);
                    // All rows of one expert stand together as they are.
                    let (rows, at) = if slots.len() == acts.n_rows() {
                        (None, 0..acts.n_rows())
                    } else {
                        if scratch.held != Some((unit.group, first)) {
                            scratch.rows.gather(acts, form, &groups.tokens[slots.clone()]);
                            scratch.held = Some((unit.group, first));
                        }
                        (Some(&scratch.rows), 0..slots.len())
                    };
                    let rows = rows.unwrap_or(acts);
                    let n_values = slots.len() * TILE_ROWS;
                    let (gate, up, values) = (
                        &mut scratch.gate[..n_values],
                        &mut scratch.up[..n_values],
                        &mut scratch.values[..n_values],
                    );
                    for tile_idx in unit.tiles.clone() {
                        let product = |matrix: &ExpertMatrix<'_>, out: &mut [f32]| {
                            let weights = &matrix.weights[group.expert];
                            let cols = (tile_idx * TILE_ROWS, n_cols(weights, tile_idx));
                            let to = Out {
                                start: out.as_mut_ptr(),
                                row_stride: TILE_ROWS,
                                n_cols: cols.1,
                                scale: weights.scale(),
                                epilogue: Epilogue::Store,
                            };
                            // SAFETY: `run` checked the operands; there are outputs for all rows, and no others.
                            unsafe { run_tile(isa, weights, tile_idx, rows, at.clone(), to) };
                            matrix.finish(isa, group.expert, cols, TILE_ROWS, out);
                        };
                        match inner {
                            Inner::Gated { gate: gates, up: ups, function } => {
                                product(gates, gate);
                                product(ups, up);
                                gate_values(isa, *function, gate, up, values);
                            }
                            Inner::SquaredRelu { up: ups } => {
                                product(ups, up);
                                square_positive(isa, up, values);
                            }
                        }
                        // SAFETY: each tile of a group's slots is in one unit.
                        unsafe { hidden.put(isa, first, tile_idx, values) };
                    }
                }
            }
        });
    };
    if units.len() > 1 { threads.run(&work) } else { work(0) }
}

/// Multiplies the hidden rows with `down` and adds up each token's products.
fn add_up(
    threads: &Threads,
    isa: Isa,
    down: &ExpertMatrix<'_>,
    hidden: &Activations,
    groups: &Groups,
    routes: &Routes,
    out: &mut [f32],
) {
    let some = &down.weights[groups.all[0].expert];
    let (n_out, n_tiles, n_slots) = (some.n_out(), some.n_tiles(), groups.n_slots());
    assert_eq!(out.len(), routes.n_tokens() * n_out, "outputs of {} rows", routes.n_tokens());
    groups.all.iter().for_each(|group| check_operands(&down.weights[group.expert], hidden));
    let at_once = (SUM_BYTES / (4 * TILE_ROWS * n_slots)).max(MIN_SUM_TILES);
    let n_units = (n_tiles.div_ceil(threads.n() * at_once) * threads.n()).min(n_tiles);
    let out = SharedMut::new(out);
    threads.for_each(n_units, 1, |units| {
        SCRATCH.with_borrow_mut(|Scratch { products, .. }| {
            for unit in units {
                let tiles = split(n_tiles, n_units, unit);
                let (first_col, width) = (tiles.start * TILE_ROWS, tiles.len() * TILE_ROWS);
                let n = width.min(n_out - first_col);
                if products.len() < n_slots * width {
                    products.resize(n_slots * width, 0.0);
                }
                let products = &mut products[..n_slots * width];
                for group in &groups.all {
                    for first in group.slots.clone().step_by(chunk_rows(hidden)) {
                        let slots = first..group.slots.end.min(first + chunk_rows(hidden));
                        for tile_idx in tiles.clone() {
                            let weights = &down.weights[group.expert];
                            let to = Out {
                                start: products[(tile_idx - tiles.start) * TILE_ROWS..].as_mut_ptr(),
                                row_stride: width,
                                n_cols: n_cols(weights, tile_idx),
                                scale: weights.scale(),
                                epilogue: Epilogue::Store,
                            };
                            // SAFETY: the operands have been checked; there are outputs for all slots, which only
                            // this worker has.
                            unsafe { run_tile(isa, weights, tile_idx, hidden, slots.clone(), to) };
                        }
                        let rows = &mut products[slots.start * width..slots.end * width];
                        down.finish(isa, group.expert, (first_col, n), width, rows);
                    }
                }
                let n_used = routes.n_used();
                let chosen = groups.slots.chunks_exact(n_used).zip(routes.weights().chunks_exact(n_used));
                for (token, (slots, weights)) in chosen.enumerate() {
                    let at = token * n_out + first_col;
                    // SAFETY: the units' columns are apart.
                    let out = unsafe { out.range(at..at + n) };
                    // SAFETY: a row of products for each slot is longer than the output.
                    unsafe { weighted_sum(isa, products, width, (slots, weights), out) };
                }
            }
        });
    });
}

simd_dispatch! {
    /// # Safety
    /// There is a row of `width` values, at least as long as `out`, for each of the slots.
    unsafe fn weighted_sum(
        products: &[f32],
        width: usize,
        terms: (&[u32], &[f32]),
        out: &mut [f32],
    ) = weighted_sum_on
}

/// `out = Σ weight · row`, one term after the other, each rounded before it is added.
///
/// # Safety
/// The instruction set of `S`. There is a row of `width` values, at least as long as `out`, for each of the slots.
#[inline(always)]
unsafe fn weighted_sum_on<S: Simd>(
    products: &[f32],
    width: usize,
    (slots, weights): (&[u32], &[f32]),
    out: &mut [f32],
) {
    debug_assert!(
        out.len() <= width && slots.iter().all(|slot| (*slot as usize + 1) * width <= products.len())
    );
    let whole = out.len() / LANES * LANES;
    let row = |slot: u32| products[slot as usize * width..].as_ptr();
    // SAFETY: whole groups of lanes inside the rows and the output.
    unsafe {
        for c in (0..whole).step_by(LANES) {
            let mut sum = S::mul(S::splat(weights[0]), S::load(row(slots[0]).add(c)));
            for (&slot, &weight) in slots.iter().zip(weights).skip(1) {
                sum = S::add(sum, S::mul(S::splat(weight), S::load(row(slot).add(c))));
            }
            S::store(out.as_mut_ptr().add(c), sum);
        }
    }
    for (c, out) in out.iter_mut().enumerate().skip(whole) {
        let term = |(&slot, &weight): (&u32, &f32)| weight * products[slot as usize * width + c];
        let mut terms = slots.iter().zip(weights).map(term);
        let first = terms.next().unwrap_or(0.0);
        *out = terms.fold(first, |sum, term| sum + term);
    }
}
