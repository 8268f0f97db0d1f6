//! The two inner loops: scores of 16 keys at a time, and weighted sums of 16 values at a time.
//!
//! `R` query rows share each load. While a tile of the pool is computed, the tile that will be read [`AHEAD`]
//! tiles later is prefetched: tiles lie in runs of a few KiB, too short for the hardware's guesses. However many rows or tiles a call takes, a score is one chain over the
//! dimensions and a sum is one chain over the keys.
#![allow(clippy::needless_range_loop, reason = "indices name the lanes of a register block")]
#![allow(unsafe_code)]

use super::formats::{Format, Tile};
use super::job::SCORE_STRIDE;
use crate::kv::{GROUP, TILE};
use crate::simd::{LANES, Simd};

/// How many tiles before its turn a tile is prefetched.
pub(super) const AHEAD: usize = 4;

/// `out[r][16 t + i] = q[r] · key i of tiles[t]` for `n_rows` rows.
///
/// A format that was converted is computed for whole groups of [`Simd::ROWS`] rows. `tiles` is followed by
/// [`AHEAD`] tiles to prefetch.
///
/// # Safety
/// The instruction set of `S`; tiles of format `F`; `q` valid for rows of `dim` values and `out` for rows of
/// [`SCORE_STRIDE`] values, up to a whole group of rows; the tile after the last may be written as well.
#[inline(always)]
pub(super) unsafe fn scores<S: Simd, F: Format<S>>(
    tiles: &[Tile],
    dim: usize,
    n_rows: usize,
    q: *const f32,
    out: *mut f32,
) {
    // SAFETY: the caller's promises; indices stay below the numbers of rows, keys and dimensions that they speak of.
    unsafe {
        let mut r = 0;
        if F::CONVERTED {
            while r < n_rows {
                let (q, out) = (q.add(r * dim), out.add(r * SCORE_STRIDE));
                match S::ROWS {
                    8 => over_tiles::<S, F, 8>(tiles, dim, q, out),
                    4 => over_tiles::<S, F, 4>(tiles, dim, q, out),
                    _ => over_tiles::<S, F, 1>(tiles, dim, q, out),
                }
                r += S::ROWS;
            }
            return;
        }
        while r < n_rows {
            let (q, out) = (q.add(r * dim), out.add(r * SCORE_STRIDE));
            match n_rows - r {
                _ if S::ROWS == 1 => over_tiles::<S, F, 1>(tiles, dim, q, out),
                1 => over_tiles::<S, F, 1>(tiles, dim, q, out),
                2 => over_tiles::<S, F, 2>(tiles, dim, q, out),
                3 => over_tiles::<S, F, 3>(tiles, dim, q, out),
                _ => over_tiles::<S, F, 4>(tiles, dim, q, out),
            }
            r += S::ROWS.min(4);
        }
    }
}

/// Scores of `R` rows against all tiles.
///
/// # Safety
/// As for [`scores`], for `R` rows.
#[inline(always)]
unsafe fn over_tiles<S: Simd, F: Format<S>, const R: usize>(
    tiles: &[Tile],
    dim: usize,
    q: *const f32,
    out: *mut f32,
) {
    // SAFETY: the caller's promises; indices stay below the numbers of rows, keys and dimensions that they speak of.
    unsafe {
        let n = tiles.len() - AHEAD;
        if S::ROWS == 8 {
            let n_paired = if F::CONVERTED { n / 2 * 2 } else { n };
            if n_paired < n {
                scores_of::<S, F, R, 1>([tiles[n - 1]], [Tile::NONE], dim, q, out.add((n - 1) * TILE));
            }
            for t in (0..n_paired).step_by(2) {
                // An odd last tile goes twice: its second scores land where none are read.
                let pair = [tiles[t], tiles[(t + 1).min(n - 1)]];
                let ahead = [tiles[t + AHEAD], tiles[(t + 1 + AHEAD).min(n - 1 + AHEAD)]];
                scores_of::<S, F, R, 2>(pair, ahead, dim, q, out.add(t * TILE));
            }
        } else {
            for t in 0..n {
                scores_of::<S, F, R, 1>([tiles[t]], [tiles[t + AHEAD]], dim, q, out.add(t * TILE));
            }
        }
    }
}

/// Scores of `R` rows against `T` tiles.
///
/// # Safety
/// As for [`scores`], for `R` rows and `T` tiles.
#[inline(always)]
unsafe fn scores_of<S: Simd, F: Format<S>, const R: usize, const T: usize>(
    tiles: [Tile; T],
    ahead: [Tile; T],
    dim: usize,
    q: *const f32,
    out: *mut f32,
) {
    // SAFETY: the caller's promises; indices stay below the numbers of rows, keys and dimensions that they speak of.
    unsafe {
        let mut acc = [[S::zero(); T]; R];
        let mut scale = [S::splat(1.0); T];
        for d in (0..dim).step_by(2) {
            if F::SCALED && d % GROUP == 0 {
                for t in 0..T {
                    scale[t] = F::key_scale(tiles[t], d / GROUP, dim);
                    S::prefetch(ahead[t].scale_address(d / GROUP * TILE));
                }
            }
            if !F::CONVERTED && (d * F::KEY_LANES_BYTES).is_multiple_of(64) {
                for t in 0..T {
                    S::prefetch(ahead[t].address(d * F::KEY_LANES_BYTES));
                }
            }
            let mut even = [S::zero(); T];
            let mut odd = [S::zero(); T];
            for t in 0..T {
                (even[t], odd[t]) = F::key_pair(tiles[t], d);
                if F::SCALED {
                    (even[t], odd[t]) = (S::mul(even[t], scale[t]), S::mul(odd[t], scale[t]));
                }
            }
            for r in 0..R {
                let (q0, q1) = (S::splat(*q.add(r * dim + d)), S::splat(*q.add(r * dim + d + 1)));
                for t in 0..T {
                    acc[r][t] = S::fma(odd[t], q1, S::fma(even[t], q0, acc[r][t]));
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                S::store(out.add(r * SCORE_STRIDE + t * TILE), acc[r][t]);
            }
        }
    }
}

/// Where a partition's weighted sums go.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// To memory as they are.
    Store,
    /// Into running sums: `sum · a[r] + part · b[r]`.
    Merge {
        /// One factor a row.
        a: *const f32,
        /// One factor a row.
        b: *const f32,
    },
}

/// `out[r] = Σ p[r][j] · value j` over keys `lo..hi` of a partition for `n_rows` rows, in the order of the keys.
///
/// `tiles` is followed by [`AHEAD`] tiles to prefetch.
///
/// # Safety
/// The instruction set of `S`; `tiles[j / 16]` of format `F` for every key and [`AHEAD`] more; `p` valid for rows of
/// [`SCORE_STRIDE`] values, `out` for rows of `dim`, the target's factors for `n_rows`, each up to a whole group
/// of rows.
#[inline(always)]
pub(super) unsafe fn weighted_sums<S: Simd, F: Format<S>>(
    tiles: &[Tile],
    (lo, hi): (usize, usize),
    dim: usize,
    n_rows: usize,
    p: *const f32,
    target: Target,
    out: *mut f32,
) {
    // SAFETY: the caller's promises; indices stay below the numbers of rows, keys and dimensions that they speak of.
    unsafe {
        let mut r = 0;
        while r < n_rows {
            match n_rows - r {
                _ if S::ROWS == 1 => over_columns::<S, F, 1>(tiles, (lo, hi), dim, r, p, target, out),
                _ if F::CONVERTED => over_columns::<S, F, 4>(tiles, (lo, hi), dim, r, p, target, out),
                1 => over_columns::<S, F, 1>(tiles, (lo, hi), dim, r, p, target, out),
                2 => over_columns::<S, F, 2>(tiles, (lo, hi), dim, r, p, target, out),
                3 => over_columns::<S, F, 3>(tiles, (lo, hi), dim, r, p, target, out),
                _ => over_columns::<S, F, 4>(tiles, (lo, hi), dim, r, p, target, out),
            }
            r += S::ROWS.min(4);
        }
    }
}

/// Weighted sums of `R` rows from `first_row` on.
///
/// # Safety
/// As for [`weighted_sums`], for `R` rows from `first_row` on.
#[inline(always)]
unsafe fn over_columns<S: Simd, F: Format<S>, const R: usize>(
    tiles: &[Tile],
    range: (usize, usize),
    dim: usize,
    first_row: usize,
    p: *const f32,
    target: Target,
    out: *mut f32,
) {
    // SAFETY: the caller's promises; indices stay below the numbers of rows, keys and dimensions that they speak of.
    unsafe {
        let (mut c, n) = (0, dim / LANES);
        if S::ROWS == 8 {
            while c + 4 <= n {
                sums_of::<S, F, R, 4>(tiles, range, dim, first_row, c, p, target, out);
                c += 4;
            }
        }
        while c < n {
            sums_of::<S, F, R, 1>(tiles, range, dim, first_row, c, p, target, out);
            c += 1;
        }
    }
}

/// Weighted sums of `R` rows in `N` groups of lanes from group `c` on.
///
/// # Safety
/// As for [`weighted_sums`], for `R` rows from `first_row` on; the groups lie in a row of `dim` values.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the coordinates of one register block")]
unsafe fn sums_of<S: Simd, F: Format<S>, const R: usize, const N: usize>(
    tiles: &[Tile],
    (lo, hi): (usize, usize),
    dim: usize,
    first_row: usize,
    c: usize,
    p: *const f32,
    target: Target,
    out: *mut f32,
) {
    // SAFETY: the caller's promises; indices stay below the numbers of rows, keys and dimensions that they speak of.
    unsafe {
        let p = p.add(first_row * SCORE_STRIDE);
        let mut acc = [[S::zero(); N]; R];
        let mut j = lo;
        while j < hi {
            let tile = *tiles.get_unchecked(j / TILE);
            let ahead = *tiles.get_unchecked(j / TILE + AHEAD);
            let end = hi.min((j / TILE + 1) * TILE);
            while j < end {
                if !F::CONVERTED {
                    let from = ((j % TILE) * (dim / LANES) + c) * F::LANES_BYTES;
                    for line in 0..(N * F::LANES_BYTES).div_ceil(64) {
                        S::prefetch(ahead.address(from + line * 64));
                    }
                    if F::SCALED && j % TILE == 0 {
                        // 32 scales fill a cache line.
                        for line in 0..(TILE * dim.div_ceil(GROUP)).div_ceil(32) {
                            S::prefetch(ahead.scale_address(line * 32));
                        }
                    }
                }
                let mut v = [S::zero(); N];
                for i in 0..N {
                    v[i] = F::value(tile, j % TILE, c + i, dim);
                }
                for r in 0..R {
                    let weight = S::splat(*p.add(r * SCORE_STRIDE + j));
                    for i in 0..N {
                        acc[r][i] = S::fma(v[i], weight, acc[r][i]);
                    }
                }
                j += 1;
            }
        }
        for r in 0..R {
            for i in 0..N {
                let at = out.add((first_row + r) * dim + (c + i) * LANES);
                match target {
                    Target::Store => S::store(at, acc[r][i]),
                    Target::Merge { a, b } => {
                        let (a, b) = (S::splat(*a.add(first_row + r)), S::splat(*b.add(first_row + r)));
                        S::store(at, merged::<S>(S::load(at), a, acc[r][i], b));
                    }
                }
            }
        }
    }
}

/// A running sum and a partition's part, each with its factor.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn merged<S: Simd>(sum: S::V, a: S::V, part: S::V, b: S::V) -> S::V {
    // SAFETY: the caller's promises; indices stay below the numbers of rows, keys and dimensions that they speak of.
    unsafe { S::fma(sum, a, S::mul(part, b)) }
}
