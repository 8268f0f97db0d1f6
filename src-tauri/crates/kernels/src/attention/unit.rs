//! One unit of work: a tile of queries of one KV head against some partitions.
#![allow(unsafe_code)]

use super::formats::{self, F16, F32, Format, Q4, Q8, Tile};
use super::job::{Item, Job, PARTITION, PARTITION_TILES, SCORE_STRIDE};
use super::kernels::{self, Target};
use super::softmax::{self, Cap, NO_MAX};
use crate::kv::quantise::hadamard;
use crate::kv::{KvFormat, TILE, is_rotated};
use crate::simd::{LANES, Simd, simd_dispatch};
use std::ops::Range;

/// Query rows from which converting K and V first costs less than reading them in place for each group.
const MIN_CONVERTED_ROWS: usize = 12;

/// A worker's buffer, grown as needed.
#[derive(Default)]
pub(super) struct Scratch {
    values: Vec<f32>,
}

/// The parts of a scratch buffer, each on its own cache lines.
struct Buffers<'a> {
    /// Queries, scaled, `[n_rows][k_dim]`.
    q: &'a mut [f32],
    /// Scores, then weights, `[n_rows][SCORE_STRIDE]`.
    p: &'a mut [f32],
    /// Running weighted sums, `[n_rows][v_dim]`.
    acc: &'a mut [f32],
    /// Running maximum and sum of each row, and those of a partition, and the factors that join them.
    m: &'a mut [f32],
    l: &'a mut [f32],
    m_part: &'a mut [f32],
    l_part: &'a mut [f32],
    a: &'a mut [f32],
    b: &'a mut [f32],
    /// A partition's K and V as f32.
    k: &'a mut [f32],
    v: &'a mut [f32],
}

/// The sizes of one item's work; dimensions are padded to whole groups of lanes.
struct Shape {
    n_rows: usize,
    heads_per_kv: usize,
    k_dim: usize,
    v_dim: usize,
    converted: bool,
}

impl Shape {
    fn new(job: &Job<'_>, item: &Item) -> Shape {
        let heads_per_kv = job.params.n_heads / job.layer.n_kv_heads;
        let n_rows = item.n_tokens * heads_per_kv;
        let (k_dim, v_dim) = (job.layer.k_dim, job.layer.v_dim);
        let padded = |dim: usize| dim.next_multiple_of(LANES);
        let odd = padded(k_dim) != k_dim || padded(v_dim) != v_dim;
        // Keys lie dimension by dimension: as values they are turned round first.
        let in_keys = job.layer.v_offset.is_none();
        Shape {
            n_rows,
            heads_per_kv,
            k_dim: padded(k_dim),
            v_dim: padded(v_dim),
            converted: odd || in_keys || n_rows >= MIN_CONVERTED_ROWS,
        }
    }
}

impl Scratch {
    fn buffers(&mut self, shape: &Shape) -> Buffers<'_> {
        // Rows up to whole groups, which kernels may compute and nobody reads.
        let per_row = shape.n_rows.next_multiple_of(LANES);
        let kv = if shape.converted { PARTITION } else { 0 };
        let sizes = [
            per_row * shape.k_dim,
            per_row * SCORE_STRIDE,
            per_row * shape.v_dim,
            per_row,
            per_row,
            per_row,
            per_row,
            per_row,
            per_row,
            kv * shape.k_dim,
            kv * shape.v_dim,
        ];
        // Every size is a multiple of 16 values, so one aligned start aligns all.
        let total = sizes.iter().sum::<usize>() + LANES;
        if self.values.len() < total {
            self.values.resize(total, 0.0);
        }
        let start = self.values.as_ptr().align_offset(64).min(LANES);
        let mut rest = &mut self.values[start..];
        let [q, p, acc, m, l, m_part, l_part, a, b, k, v] = sizes.map(|size| {
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(size);
            rest = behind;
            part
        });
        Buffers { q, p, acc, m, l, m_part, l_part, a, b, k, v }
    }
}

/// Values of one partition's partial results: maxima, sums, weighted sums.
pub(super) fn partial_len(n_rows: usize, v_dim: usize) -> usize {
    n_rows.next_multiple_of(LANES) * (2 + v_dim.next_multiple_of(LANES))
}

/// Where the partial results of partition `part` of `item` lie: maxima, sums, weighted sums.
///
/// # Safety
/// The partial results of `item` begin at `first`, and `part` is one of its partitions.
unsafe fn partial(job: &Job<'_>, item: &Item, shape: &Shape, first: usize, part: usize) -> [*mut f32; 3] {
    // SAFETY: the caller's promises; offsets stay inside what the job's check and `Shape` have measured.
    unsafe {
        let per_row = shape.n_rows.next_multiple_of(LANES);
        let at = first + (part - item.parts.start) * partial_len(shape.n_rows, shape.v_dim);
        debug_assert!(at + partial_len(shape.n_rows, shape.v_dim) <= job.partials.len());
        let m = job.partials.as_ptr().add(at);
        [m, m.add(per_row), m.add(2 * per_row)]
    }
}

simd_dispatch! {
    /// Computes partitions `parts` of `item`: to the output when they are all of the item's, else to its
    /// partial results.
    ///
    /// # Safety
    /// The job has been checked, and nobody else writes what this writes.
    pub(super) unsafe fn compute(job: &Job<'_>, item: &Item, parts: Range<usize>, scratch: &mut Scratch) = compute_on
}

simd_dispatch! {
    /// Merges the partial results of `item` into the output.
    ///
    /// # Safety
    /// As for [`compute`], and all partial results have been written.
    pub(super) unsafe fn merge_partials(job: &Job<'_>, item: &Item, scratch: &mut Scratch) = merge_partials_on
}

/// What [`compute`] does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The promises of [`compute`].
#[inline(always)]
unsafe fn compute_on<S: Simd>(job: &Job<'_>, item: &Item, parts: Range<usize>, scratch: &mut Scratch) {
    // SAFETY: the caller's promises; offsets stay inside what the job's check and `Shape` have measured.
    unsafe {
        let shape = Shape::new(job, item);
        let mut buffers = scratch.buffers(&shape);
        let cap = load_queries(job, item, &shape, buffers.q);
        clear(&shape, &mut buffers);
        for part in parts {
            let to = &mut buffers;
            match (shape.converted, job.layer.dtype) {
                (true, _) => partition::<S, F32>(job, item, &shape, to, cap, part),
                (false, KvFormat::F16) => partition::<S, F16>(job, item, &shape, to, cap, part),
                (false, KvFormat::Q8) => partition::<S, Q8>(job, item, &shape, to, cap, part),
                (false, KvFormat::Q4) => partition::<S, Q4>(job, item, &shape, to, cap, part),
            }
        }
        if item.partials.is_none() {
            finish::<S>(job, item, &shape, &mut buffers);
        }
    }
}

/// What [`merge_partials`] does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The promises of [`merge_partials`].
#[inline(always)]
unsafe fn merge_partials_on<S: Simd>(job: &Job<'_>, item: &Item, scratch: &mut Scratch) {
    // SAFETY: the caller's promises; offsets stay inside what the job's check and `Shape` have measured.
    unsafe {
        let shape = Shape::new(job, item);
        let mut to = scratch.buffers(&shape);
        clear(&shape, &mut to);
        let Some(first) = item.partials else { return };
        for part in item.parts.clone() {
            let [m, l, acc] = partial(job, item, &shape, first, part);
            let running = (to.m.as_mut_ptr(), to.l.as_mut_ptr());
            softmax::join::<S>(shape.n_rows, running, (m, l), (to.a.as_mut_ptr(), to.b.as_mut_ptr()));
            let sums = to.acc.as_mut_ptr();
            for r in 0..shape.n_rows {
                let (a, b) = (S::splat(to.a[r]), S::splat(to.b[r]));
                for at in (r * shape.v_dim..(r + 1) * shape.v_dim).step_by(LANES) {
                    let sum = kernels::merged::<S>(S::load(sums.add(at)), a, S::load(acc.add(at)), b);
                    S::store(sums.add(at), sum);
                }
            }
        }
        finish::<S>(job, item, &shape, &mut to);
    }
}

/// Empties the running results; rows up to whole groups of lanes, so that no lane holds a surprise.
fn clear(shape: &Shape, to: &mut Buffers<'_>) {
    for maxima in [&mut *to.m, &mut *to.m_part] {
        maxima.fill(NO_MAX);
    }
    for sums in [&mut *to.l, &mut *to.l_part] {
        sums.fill(0.0);
    }
    to.acc[..shape.n_rows * shape.v_dim].fill(0.0);
}

/// Copies the tile's queries to `to`, row `t · heads_per_kv + g` for head `g` of token `t`, scaled so that scores are
/// powers of 2, or arguments of the soft-cap's tangent.
#[inline(always)]
fn load_queries(job: &Job<'_>, item: &Item, shape: &Shape, to: &mut [f32]) -> Option<Cap> {
    let (dim, params) = (job.layer.k_dim, job.params);
    let log2_e = std::f32::consts::LOG2_E;
    let factor = match params.softcap {
        None => params.scale * log2_e,
        Some(cap) => params.scale / cap,
    };
    for (r, row) in to.chunks_exact_mut(shape.k_dim).take(shape.n_rows).enumerate() {
        let head = item.kv_head * shape.heads_per_kv + r % shape.heads_per_kv;
        let from = ((item.token + r / shape.heads_per_kv) * params.n_heads + head) * dim;
        for (x, q) in row.iter_mut().zip(&job.q[from..from + dim]) {
            *x = q * factor;
        }
        job.layer.rotate_key(&mut row[..dim]);
        row[dim..].fill(0.0);
    }
    params.softcap.map(|cap| Cap { factor: cap * log2_e })
}

/// The keys of a partition that some rows see, as positions within it: from the first that the first row sees
/// to the last that the last row sees.
fn seen(job: &Job<'_>, item: &Item, part: usize, tokens: (usize, usize)) -> (usize, usize) {
    let start = part * PARTITION;
    let (first, last) = (item.position + tokens.0, item.position + tokens.1);
    let lo = job.params.first_seen(first).clamp(start, start + PARTITION);
    let hi = job.params.seen_end(last, item.row_end).clamp(start, start + PARTITION);
    (lo - start, hi - start)
}

/// Adds one partition to the running results, or writes it to the item's partial results.
///
/// # Safety
/// The instruction set of `S`. The promises of [`compute`]; the buffers are of this shape, which is the
/// item's, and hold its queries.
#[inline(always)]
unsafe fn partition<S: Simd, F: Format<S>>(
    job: &Job<'_>,
    item: &Item,
    shape: &Shape,
    to: &mut Buffers<'_>,
    cap: Option<Cap>,
    part: usize,
) {
    // SAFETY: the caller's promises; offsets stay inside what the job's check and `Shape` have measured.
    unsafe {
        let (lo, hi) = seen(job, item, part, (0, item.n_tokens - 1));
        let tile_range = (lo / TILE, hi.div_ceil(TILE));
        let (k_tiles, v_tiles) = tiles::<S>(job, item, shape, to, part, tile_range);
        let (queries, weights) = (to.q.as_ptr(), to.p.as_mut_ptr());
        let (running, factors) =
            ((to.m.as_mut_ptr(), to.l.as_mut_ptr()), (to.a.as_mut_ptr(), to.b.as_mut_ptr()));
        let n_at_once = S::ROWS;
        let token_of = |r: usize| r / shape.heads_per_kv;
        let seen_by = |r: usize, n: usize| seen(job, item, part, (token_of(r), token_of(r + n - 1)));

        // A few K tiles at a time, so that they stay in the first cache while all rows pass.
        let step = if shape.converted { 2 } else { PARTITION_TILES };
        for t in (tile_range.0..tile_range.1).step_by(step) {
            let end = tile_range.1.min(t + step);
            for r in (0..shape.n_rows).step_by(n_at_once) {
                let n = n_at_once.min(shape.n_rows - r);
                let (lo, hi) = seen_by(r, n);
                let (first, last) = (t.max(lo / TILE), end.min(hi.div_ceil(TILE)));
                if first < last {
                    let (q, p) = (queries.add(r * shape.k_dim), weights.add(r * SCORE_STRIDE + first * TILE));
                    kernels::scores::<S, F>(&k_tiles[first..last + kernels::AHEAD], shape.k_dim, n, q, p);
                }
            }
        }
        let (m_part, l_part, out) = match item.partials {
            None => (to.m_part.as_mut_ptr(), to.l_part.as_mut_ptr(), to.acc.as_mut_ptr()),
            Some(first) => {
                let [m, l, acc] = partial(job, item, shape, first, part);
                (m, l, acc)
            }
        };
        for r in (0..shape.n_rows).step_by(n_at_once) {
            let n = n_at_once.min(shape.n_rows - r);
            let (lo, hi) = seen_by(r, n);
            for row in r..r + n {
                let p = weights.add(row * SCORE_STRIDE);
                let (m, l) = softmax::weights::<S>(p, (lo / TILE, hi.div_ceil(TILE)), seen_by(row, 1), cap);
                m_part.add(row).write(m);
                l_part.add(row).write(l);
            }
        }
        let target = if item.partials.is_some() {
            Target::Store
        } else {
            softmax::join::<S>(shape.n_rows, running, (m_part, l_part), factors);
            Target::Merge { a: factors.0, b: factors.1 }
        };
        for r in (0..shape.n_rows).step_by(n_at_once) {
            let n = n_at_once.min(shape.n_rows - r);
            let target = match target {
                Target::Store => Target::Store,
                Target::Merge { a, b } => Target::Merge { a: a.add(r), b: b.add(r) },
            };
            let (p, out) = (weights.add(r * SCORE_STRIDE), out.add(r * shape.v_dim));
            kernels::weighted_sums::<S, F>(&v_tiles, seen_by(r, n), shape.v_dim, n, p, target, out);
        }
    }
}

/// A partition's tiles, and those that are read after them.
type Tiles = [Tile; PARTITION_TILES + kernels::AHEAD];

/// The K and V tiles `first..last` of a partition, in the pool or converted. V follows K, and the next
/// partition's K follows V.
///
/// # Safety
/// The instruction set of `S`. The job has been checked; the buffers are of this shape, which is the item's;
/// the tiles are of the partition.
#[inline(always)]
unsafe fn tiles<S: Simd>(
    job: &Job<'_>,
    item: &Item,
    shape: &Shape,
    to: &mut Buffers<'_>,
    part: usize,
    (first, last): (usize, usize),
) -> (Tiles, Tiles) {
    // SAFETY: the caller's promises; offsets stay inside what the job's check and `Shape` have measured.
    unsafe {
        let (layer, row) = (job.layer, &job.rows[item.row]);
        let (k_converted, v_converted) = (to.k.as_mut_ptr(), to.v.as_mut_ptr());
        let none = [Tile::NONE; PARTITION_TILES + kernels::AHEAD];
        let (mut k_tiles, mut v_tiles) = (none, none);
        let k_of = |position: usize| {
            let block = job.arena.block_ptr(row.block_of(position, layer.block_tokens));
            let k_part = block.add(layer.k_offset + item.kv_head * layer.k_head_bytes());
            Tile::of(
                layer.dtype.of_keys(),
                k_part,
                layer.block_tokens,
                position % layer.block_tokens,
                layer.k_dim,
            )
        };
        for t in first..last {
            let position = part * PARTITION + t * TILE;
            let slot = position % layer.block_tokens;
            let block = job.arena.block_ptr(row.block_of(position, layer.block_tokens));
            k_tiles[t] = k_of(position);
            if let Some(v_offset) = layer.v_offset {
                let v_part = block.add(v_offset + item.kv_head * layer.v_head_bytes());
                v_tiles[t] = Tile::of(layer.dtype, v_part, layer.block_tokens, slot, layer.v_dim);
            }
            if !shape.converted {
                continue;
            }
            let (k_out, v_out) =
                (k_converted.add(t * TILE * shape.k_dim), v_converted.add(t * TILE * shape.v_dim));
            if shape.k_dim != layer.k_dim {
                formats::convert_odd_keys(layer.dtype, k_tiles[t], layer.k_dim, shape.k_dim, k_out);
            } else {
                match layer.dtype {
                    KvFormat::F16 => formats::convert_keys::<S, F16>(k_tiles[t], shape.k_dim, k_out),
                    KvFormat::Q8 => formats::convert_keys::<S, Q8>(k_tiles[t], shape.k_dim, k_out),
                    KvFormat::Q4 => formats::convert_keys::<S, Q4>(k_tiles[t], shape.k_dim, k_out),
                }
            }
            if layer.v_offset.is_none() {
                formats::values_of_keys::<S>(k_out, shape.v_dim, v_out);
            } else if shape.v_dim != layer.v_dim {
                formats::convert_odd_values(layer.dtype, v_tiles[t], layer.v_dim, shape.v_dim, v_out);
            } else {
                match layer.dtype {
                    KvFormat::F16 => formats::convert_values::<S, F16>(v_tiles[t], shape.v_dim, v_out),
                    KvFormat::Q8 => formats::convert_values::<S, Q8>(v_tiles[t], shape.v_dim, v_out),
                    KvFormat::Q4 => formats::convert_values::<S, Q4>(v_tiles[t], shape.v_dim, v_out),
                }
            }
            (k_tiles[t], v_tiles[t]) = (Tile::converted(k_out), Tile::converted(v_out));
        }
        if !shape.converted {
            let end = job.params.seen_end(item.position + item.n_tokens - 1, item.row_end);
            for i in 0..kernels::AHEAD {
                k_tiles[last + i] = v_tiles[(first + i).min(last - 1)];
                let position = (part + 1) * PARTITION + i * TILE;
                if last == PARTITION_TILES && position < end {
                    v_tiles[last + i] = k_of(position);
                }
            }
        }
        (k_tiles, v_tiles)
    }
}

/// Joins the sinks to the running maxima and sums and leaves in `a` what the weighted sums shrink by.
///
/// # Safety
/// The instruction set of `S`. The buffers are of this shape, which is the item's.
#[inline(always)]
unsafe fn join_sinks<S: Simd>(
    sinks: &[f32],
    item: &Item,
    shape: &Shape,
    Buffers { m, l, m_part, l_part, a, b, .. }: &mut Buffers<'_>,
) {
    let first_head = item.kv_head * shape.heads_per_kv;
    for (r, (score, weight)) in m_part.iter_mut().zip(l_part.iter_mut()).enumerate() {
        let head = first_head + r % shape.heads_per_kv;
        let is_row = r < shape.n_rows;
        (*score, *weight) =
            if is_row { (sinks[head] * std::f32::consts::LOG2_E, 1.0) } else { (NO_MAX, 0.0) };
    }
    let (part, factors) = ((m_part.as_ptr(), l_part.as_ptr()), (a.as_mut_ptr(), b.as_mut_ptr()));
    // SAFETY: each has room for whole groups of lanes; the instruction set by the caller.
    unsafe { softmax::join::<S>(shape.n_rows, (m.as_mut_ptr(), l.as_mut_ptr()), part, factors) };
}

/// Writes the quotients of sums to the output.
///
/// # Safety
/// The instruction set of `S`. The promises of [`compute`]; the buffers are of this shape, which is the
/// item's, and hold its sums.
#[inline(always)]
unsafe fn finish<S: Simd>(job: &Job<'_>, item: &Item, shape: &Shape, from: &mut Buffers<'_>) {
    // SAFETY: the caller's promises; offsets stay inside what the job's check and `Shape` have measured.
    unsafe {
        if let Some(sinks) = job.params.sinks {
            join_sinks::<S>(sinks, item, shape, from);
        }
        let (dim, n_heads) = (job.layer.v_dim, job.params.n_heads);
        let rotated = is_rotated(job.layer.dtype, dim);
        for r in 0..shape.n_rows {
            let head = item.kv_head * shape.heads_per_kv + r % shape.heads_per_kv;
            let at = ((item.token + r / shape.heads_per_kv) * n_heads + head) * dim;
            let out = job.out.range(at..at + dim);
            let acc = from.acc[r * shape.v_dim..].as_ptr();
            let sum = S::splat(from.l[r]);
            for c in (0..shape.v_dim).step_by(LANES) {
                // Adding 0 makes every zero positive: its sign could depend on how many hidden keys were passed.
                let acc = S::load(acc.add(c));
                let acc = if job.params.sinks.is_some() { S::mul(acc, S::splat(from.a[r])) } else { acc };
                let quotient = S::add(S::div(acc, sum), S::zero());
                if c + LANES <= dim {
                    S::store(out.as_mut_ptr().add(c), quotient);
                } else {
                    let mut lanes = [0f32; LANES];
                    S::store(lanes.as_mut_ptr(), quotient);
                    out[c..].copy_from_slice(&lanes[..dim - c]);
                }
            }
            if rotated {
                hadamard(out);
            }
        }
    }
}
