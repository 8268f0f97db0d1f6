//! From scores to weights, one partition at a time, and what joins partitions.
#![allow(unsafe_code)]

use crate::kv::TILE;
use crate::simd::{LANES, Simd};
use crate::vmath;

/// The maximum of no scores; below every score, yet finite, so that differences are numbers.
pub(super) const NO_MAX: f32 = f32::MIN;

/// A soft-cap on scores in units of powers of 2.
#[derive(Clone, Copy)]
pub(super) struct Cap {
    /// Scores become `factor · tanh(score)`.
    pub(super) factor: f32,
}

/// Turns the scores of tiles `tiles.0..tiles.1` of one row into weights `2^(score − m)` in place, 0 for the keys
/// outside `seen`, and returns the maximum score `m` and the sum of the weights.
///
/// # Safety
/// The instruction set of `S`; `row` valid for the tiles' scores.
#[inline(always)]
pub(super) unsafe fn weights<S: Simd>(
    row: *mut f32,
    tiles: (usize, usize),
    seen: (usize, usize),
    cap: Option<Cap>,
) -> (f32, f32) {
    // SAFETY: the caller's promises.
    unsafe {
        let hidden = S::splat(f32::NEG_INFINITY);
        let (lo, hi) = seen;
        let mut highest = S::splat(NO_MAX);
        for t in tiles.0..tiles.1 {
            let at = row.add(t * TILE);
            let (start, end) = (t * TILE, (t + 1) * TILE);
            let mut s = S::load(at);
            if let Some(cap) = cap {
                s = S::mul(S::splat(cap.factor), vmath::tanh::<S>(s));
            }
            if lo > start || hi < end {
                s = S::keep_range(s, lo.saturating_sub(start), hi.saturating_sub(start), hidden);
            }
            if cap.is_some() || lo > start || hi < end {
                S::store(at, s);
            }
            highest = S::max(highest, s);
        }
        let m = S::max_lane(highest);
        let (mv, mut sum) = (S::splat(m), S::zero());
        for t in tiles.0..tiles.1 {
            let at = row.add(t * TILE);
            let p = vmath::exp2::<S>(S::sub(S::load(at), mv));
            S::store(at, p);
            sum = S::add(sum, p);
        }
        (m, S::sum(sum))
    }
}

/// Joins the maxima and sums of a partition (`m_part`, `l_part`) to the running ones (`m`, `l`) and leaves the
/// factors of the running sum (`a`) and of the partition's (`b`), for rows in whole groups of lanes.
///
/// # Safety
/// The instruction set of `S`; all pointers valid for `n_rows` rounded up to whole groups of lanes.
#[inline(always)]
pub(super) unsafe fn join<S: Simd>(
    n_rows: usize,
    (m, l): (*mut f32, *mut f32),
    (m_part, l_part): (*const f32, *const f32),
    (a, b): (*mut f32, *mut f32),
) {
    // SAFETY: the caller's promises.
    unsafe {
        for i in (0..n_rows).step_by(LANES) {
            let (old, part) = (S::load(m.add(i)), S::load(m_part.add(i)));
            let new = S::max(old, part);
            let (fa, fb) = (vmath::exp2::<S>(S::sub(old, new)), vmath::exp2::<S>(S::sub(part, new)));
            S::store(m.add(i), new);
            S::store(
                l.add(i),
                super::kernels::merged::<S>(S::load(l.add(i)), fa, S::load(l_part.add(i)), fb),
            );
            S::store(a.add(i), fa);
            S::store(b.add(i), fb);
        }
    }
}
