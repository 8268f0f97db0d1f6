//! Gated delta nets (Yang et al. 2024, "Gated Delta Networks", arXiv 2412.06464): each head keeps a matrix, of which a
//! token's key reads a value, corrects it towards the token's own, and its query reads the output.
//!
//! ```text
//! S ← decay · S                                  S: [k_dim, v_dim], decay and beta: of the token and the head
//! S ← S + key ⊗ beta · (value − Sᵀ key)
//! out = Sᵀ query
//!
//! a head in its block   panels of 16 values: [v_dim / 16][k_dim][16] f32, so that sixteen lanes run down all keys
//! ```
//!
//! A panel's values change by their own alone, so each is done for all tokens of a row while it is in the first cache, and
//! no sum goes across lanes. Every token is one pass over a panel: as a token's keys are added, the sums of the next are
//! taken, by its key and by its query. What its query would read of the corrected matrix is what it reads of the one
//! before, and the correction as far as query and key overlap. A sum goes through all keys in their order, so how rows
//! are cut changes no bits.
#![allow(unsafe_code)]

use crate::isa::Isa;
use crate::kv::KvArena;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::state::{StateLayer, StateRow};
use crate::threads::{SharedMut, Threads};

pub use gates::{GateInput, GateProducts, TokenGates, prepare};
pub use shape::{DeltaShape, KeyHeads};

mod gates;
mod shape;

/// Panels that are done together: both, with what is read of a token, are in the smallest first cache, and the sums of
/// both hide the latency of each.
const PANELS: usize = 2;

/// Runs the tokens of `rows` through their states, head by head.
///
/// `qkv` is `[n_tokens, width]` as [`prepare`] has left it, with `gates`; `out` is `[n_tokens, n_v_heads, v_dim]`.
///
/// # Panics
/// When the layer does not fit the shape, the arena or the rows, or a slice has another length than these ask for.
#[expect(clippy::too_many_arguments, reason = "the operation's inputs, none of which belong together")]
pub fn gated_delta(
    threads: &Threads,
    isa: Isa,
    arena: &mut KvArena,
    layer: &StateLayer,
    shape: &DeltaShape,
    rows: &[StateRow<'_>],
    (qkv, gates): (&[f32], &TokenGates),
    out: &mut [f32],
) {
    shape.check();
    let n_tokens = layer.check(arena, rows);
    let n_heads = shape.n_v_heads;
    assert_eq!((layer.n_heads(), layer.head_values()), (n_heads, shape.head_values()), "heads of the state");
    assert_eq!(qkv.len(), n_tokens * shape.width(), "queries, keys and values of {n_tokens} tokens");
    assert_eq!(out.len(), n_tokens * n_heads * shape.v_dim, "outputs of {n_tokens} tokens");
    gates.check(n_tokens, shape);
    let mut pieces = Vec::with_capacity(rows.len());
    let mut first = 0;
    for row in rows {
        pieces.push(Piece { row, first });
        first += row.n_tokens;
    }
    // The longest first, so that no worker is left with one at the end.
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.row.n_tokens));
    let job = Job { arena, layer, shape, qkv, gates, out: SharedMut::new(out) };
    threads.for_each(pieces.len() * n_heads, 1, |units| {
        for unit in units {
            // SAFETY: all is checked above. A head of a row is one worker's: its state, its saves and its outputs.
            unsafe { run_head(isa, &job, &pieces[unit / n_heads], unit % n_heads) };
        }
    });
}

/// The operands of a call, as the workers see them.
struct Job<'a> {
    arena: &'a KvArena,
    layer: &'a StateLayer,
    shape: &'a DeltaShape,
    qkv: &'a [f32],
    gates: &'a TokenGates,
    out: SharedMut<'a, f32>,
}

/// A row, and the packed index of its first token.
struct Piece<'a> {
    row: &'a StateRow<'a>,
    first: usize,
}

simd_dispatch! {
    /// Runs all tokens of a row through one head.
    ///
    /// # Safety
    /// The call is checked, and the head of the row is this thread's.
    unsafe fn run_head(job: &Job<'_>, piece: &Piece<'_>, head: usize) = run_head_on
}

/// What [`run_head`] does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The promises of [`run_head`].
#[inline(always)]
unsafe fn run_head_on<S: Simd>(job: &Job<'_>, piece: &Piece<'_>, head: usize) {
    let n_panels = job.shape.v_dim / LANES;
    let whole = n_panels / PANELS * PANELS;
    // SAFETY: the caller's promises, and panels that the head has.
    unsafe {
        for panel in (0..whole).step_by(PANELS) {
            run_panels::<S, PANELS>(job, piece, head, panel);
        }
        for panel in whole..n_panels {
            run_panels::<S, 1>(job, piece, head, panel);
        }
    }
}

/// Runs all tokens of a row through `N` panels of a head from `panel` on.
///
/// # Safety
/// The instruction set of `S`. The promises of [`run_head`]; the head has these panels.
#[inline(always)]
unsafe fn run_panels<S: Simd, const N: usize>(job: &Job<'_>, piece: &Piece<'_>, head: usize, panel: usize) {
    let Piece { row, first } = *piece;
    let panel_values = job.shape.k_dim * LANES;
    // SAFETY: the panels are inside the head, whose memory nobody else uses, and saves are other memory.
    unsafe {
        let state = job.layer.head(job.arena, row.blocks, head).add(panel * panel_values);
        if row.begins() {
            state.write_bytes(0, N * panel_values);
        }
        let mut at = 0;
        for save in &row.saves {
            run_tokens::<S, N>(job, state, first + at..first + save.n_tokens, (head, panel));
            let to = job.layer.head(job.arena, save.blocks, head).add(panel * panel_values);
            to.copy_from_nonoverlapping(state, N * panel_values);
            at = save.n_tokens;
        }
        run_tokens::<S, N>(job, state, first + at..first + row.n_tokens, (head, panel));
    }
}

/// Runs the tokens with these packed indices through the panels at `state`, of a head from a panel on.
///
/// # Safety
/// The instruction set of `S`. The call is checked, and the panels and these outputs are this thread's.
#[inline(always)]
unsafe fn run_tokens<S: Simd, const N: usize>(
    job: &Job<'_>,
    state: *mut f32,
    tokens: std::ops::Range<usize>,
    (head, panel): (usize, usize),
) {
    let DeltaShape { n_k_heads, n_v_heads, k_dim, v_dim, .. } = *job.shape;
    let (width, key_head) = (job.shape.width(), job.shape.key_head(head));
    let (keys, values) = (n_k_heads * k_dim, 2 * n_k_heads * k_dim + head * v_dim + panel * LANES);
    if tokens.is_empty() {
        return;
    }
    // SAFETY: the caller's promises; indices follow from the shape.
    unsafe {
        let of_token = |token: usize| {
            let start = job.qkv.as_ptr().add(token * width);
            (start.add(key_head * k_dim), start.add(keys + key_head * k_dim), start.add(values))
        };
        let (query, mut key, mut value) = of_token(tokens.start);
        let mut read = recall::<S, N>(state, k_dim, key, query);
        for token in tokens.clone() {
            let at = token * n_v_heads + head;
            let (beta, decay) = (S::splat(job.gates.beta[at]), S::splat(job.gates.decay[at]));
            let overlap = S::splat(job.gates.overlap[token * n_k_heads + key_head]);
            let out = job.out.as_ptr().add(at * v_dim + panel * LANES);
            let mut change = [S::zero(); N];
            for (n, change) in change.iter_mut().enumerate() {
                let known = S::mul(decay, read.by_key[n]);
                *change = S::mul(beta, S::sub(S::load(value.add(n * LANES)), known));
                S::store(out.add(n * LANES), S::fma(overlap, *change, S::mul(decay, read.by_query[n])));
            }
            if token + 1 < tokens.end {
                let (next_query, next_key, next_value) = of_token(token + 1);
                read = correct::<S, N>(state, k_dim, (key, decay, change), (next_key, next_query));
                (key, value) = (next_key, next_value);
            } else {
                // Nobody reads what the last token's own query and key would.
                correct_only::<S, N>(state, k_dim, (key, decay, change));
            }
        }
    }
}

/// What a key and a query read of the matrix: a sum over all keys for each value.
#[derive(Clone, Copy)]
struct Read<S: Simd, const N: usize> {
    by_key: [S::V; N],
    by_query: [S::V; N],
}

/// Reads the panels at `state` by a key and a query.
///
/// # Safety
/// The instruction set of `S`; `state` is `N` panels of `k_dim` keys, as many as there are of `key` and `query`.
#[inline(always)]
unsafe fn recall<S: Simd, const N: usize>(
    state: *const f32,
    k_dim: usize,
    key: *const f32,
    query: *const f32,
) -> Read<S, N> {
    // SAFETY: the caller's promises.
    unsafe {
        let mut read = Read::<S, N> { by_key: [S::zero(); N], by_query: [S::zero(); N] };
        for i in 0..k_dim {
            let (key, query) = (S::splat(*key.add(i)), S::splat(*query.add(i)));
            for n in 0..N {
                let s = S::load(state.add((n * k_dim + i) * LANES));
                read.by_key[n] = S::fma(s, key, read.by_key[n]);
                read.by_query[n] = S::fma(s, query, read.by_query[n]);
            }
        }
        read
    }
}

/// Lets the panels at `state` decay, adds a change of the values that `key` reads, and reads them by the next token's
/// key and query.
///
/// # Safety
/// As [`recall`], and nobody else uses the panels.
#[inline(always)]
unsafe fn correct<S: Simd, const N: usize>(
    state: *mut f32,
    k_dim: usize,
    (key, decay, change): (*const f32, S::V, [S::V; N]),
    (next_key, next_query): (*const f32, *const f32),
) -> Read<S, N> {
    // SAFETY: the caller's promises.
    unsafe {
        let mut read = Read::<S, N> { by_key: [S::zero(); N], by_query: [S::zero(); N] };
        for i in 0..k_dim {
            let key = S::splat(*key.add(i));
            let (next_key, next_query) = (S::splat(*next_key.add(i)), S::splat(*next_query.add(i)));
            for (n, &change) in change.iter().enumerate() {
                let at = state.add((n * k_dim + i) * LANES);
                let s = S::fma(key, change, S::mul(decay, S::load(at)));
                S::store(at, s);
                read.by_key[n] = S::fma(s, next_key, read.by_key[n]);
                read.by_query[n] = S::fma(s, next_query, read.by_query[n]);
            }
        }
        read
    }
}

/// As [`correct`], where no token follows.
///
/// # Safety
/// As [`correct`].
#[inline(always)]
unsafe fn correct_only<S: Simd, const N: usize>(
    state: *mut f32,
    k_dim: usize,
    (key, decay, change): (*const f32, S::V, [S::V; N]),
) {
    // SAFETY: the caller's promises.
    unsafe {
        for i in 0..k_dim {
            let key = S::splat(*key.add(i));
            for (n, &change) in change.iter().enumerate() {
                let at = state.add((n * k_dim + i) * LANES);
                S::store(at, S::fma(key, change, S::mul(decay, S::load(at))));
            }
        }
    }
}

#[cfg(test)]
mod tests;
