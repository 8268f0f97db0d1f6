//! What is done to each head's vector of a query or key before attention: norm, then rotary embedding.
#![allow(unsafe_code)]

use super::norm::norm_in_place;
use super::over_rows;
use super::rope::RopeTable;
use crate::isa::Isa;
use crate::simd::{Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};

/// A root mean square norm over one head's vector ("QK-norm").
#[derive(Debug, Clone, Copy)]
pub struct HeadNorm<'a> {
    /// One weight for each value of a head's vector.
    pub weight: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
}

/// The preparation of queries or keys; each part may be absent.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadPrep<'a> {
    /// Done first.
    pub norm: Option<HeadNorm<'a>>,
    /// Done second; its tokens are those of the step, in packed order.
    pub rope: Option<&'a RopeTable>,
}

impl HeadPrep<'_> {
    pub(crate) fn check(&self, n_tokens: usize, dim: usize) {
        if let Some(norm) = self.norm {
            assert_eq!(norm.weight.len(), dim, "weights of the norm over heads of {dim} values");
        }
        if let Some(rope) = self.rope {
            assert_eq!(rope.n_tokens(), n_tokens, "tokens of the rope table");
            assert!(rope.n_rot() <= dim, "{} rotated values in a head of {dim}", rope.n_rot());
        }
    }

    fn is_empty(&self) -> bool {
        self.norm.is_none() && self.rope.is_none()
    }

    /// Prepares one head's vector of token `token`.
    ///
    /// # Safety
    /// The instruction set of `S`.
    #[inline(always)]
    pub(crate) unsafe fn apply<S: Simd>(&self, token: usize, x: &mut [f32]) {
        if let Some(norm) = self.norm {
            // SAFETY: the caller's promise.
            unsafe { norm_in_place::<S>(x, norm.weight, norm.eps) };
        }
        if let Some(rope) = self.rope {
            rope.turn(token, x);
        }
    }
}

/// Prepares the queries (or keys) of a step in place: `x` is `[n_tokens, n_heads, dim]`.
///
/// # Panics
/// When `x` is no whole number of tokens, or `prep` does not fit its tokens or `dim`.
pub fn prepare_heads(
    threads: &Threads,
    isa: Isa,
    prep: &HeadPrep<'_>,
    n_heads: usize,
    dim: usize,
    x: &mut [f32],
) {
    let width = n_heads * dim;
    assert!(width > 0 && x.len().is_multiple_of(width), "{} values in rows of {width}", x.len());
    let n_tokens = x.len() / width;
    prep.check(n_tokens, dim);
    if prep.is_empty() {
        return;
    }
    let x = SharedMut::new(x);
    over_rows(threads, n_tokens, width, |tokens| {
        for token in tokens {
            // SAFETY: a token is in one range, and its values are its own.
            unsafe { prepare_token(isa, prep, token, dim, x.range(token * width..(token + 1) * width)) };
        }
    });
}

/// Parts heads of which each is two vectors of `dim` values: `x` is `[n_tokens, n_heads, 2, dim]`, and the vectors of each
/// kind go to `firsts` and `seconds`, `[n_tokens, n_heads, dim]`.
///
/// # Panics
/// When `x` is no whole number of pairs, or one of the others is not as large as half of it.
pub fn split_pairs(threads: &Threads, dim: usize, x: &[f32], firsts: &mut [f32], seconds: &mut [f32]) {
    assert!(dim > 0 && x.len().is_multiple_of(2 * dim), "{} values in pairs of {dim}", x.len());
    assert!(firsts.len() == x.len() / 2 && seconds.len() == x.len() / 2, "halves of {} values", x.len());
    let [firsts, seconds] = [firsts, seconds].map(SharedMut::new);
    over_rows(threads, x.len() / (2 * dim), 2 * dim, |pairs| {
        let values = pairs.start * dim..pairs.end * dim;
        // SAFETY: ranges do not overlap.
        let (firsts, seconds) = unsafe { (firsts.range(values.clone()), seconds.range(values)) };
        let x = x[pairs.start * 2 * dim..pairs.end * 2 * dim].chunks_exact(2 * dim);
        for (pair, (first, second)) in x.zip(firsts.chunks_exact_mut(dim).zip(seconds.chunks_exact_mut(dim)))
        {
            first.copy_from_slice(&pair[..dim]);
            second.copy_from_slice(&pair[dim..]);
        }
    });
}

simd_dispatch! {
    /// Prepares the heads of one token.
    ///
    /// # Safety
    /// `x` is heads of `dim` values, and `prep` has been checked for the token.
    unsafe fn prepare_token(prep: &HeadPrep<'_>, token: usize, dim: usize, x: &mut [f32]) = prepare_token_on
}

/// What `prepare_token` does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The promises of `prepare_token`.
#[inline(always)]
unsafe fn prepare_token_on<S: Simd>(prep: &HeadPrep<'_>, token: usize, dim: usize, x: &mut [f32]) {
    for head in x.chunks_exact_mut(dim) {
        // SAFETY: the caller's promise.
        unsafe { prep.apply::<S>(token, head) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Rope, RopePairs, rms_norm};

    #[test]
    fn pairs_of_vectors_are_parted() {
        let x: Vec<f32> = (0..5 * 3 * 2 * 700).map(|i| i as f32).collect();
        let [mut firsts, mut seconds] = [0; 2].map(|_| vec![0.0; x.len() / 2]);
        split_pairs(&Threads::new(2), 700, &x, &mut firsts, &mut seconds);
        for (i, pair) in x.chunks(1400).enumerate() {
            assert_eq!([&firsts, &seconds].map(|half| &half[i * 700..][..700]), [&pair[..700], &pair[700..]]);
        }
    }

    #[test]
    fn heads_are_normed_and_then_turned_each_by_itself() {
        let threads = Threads::new(2);
        let positions: Vec<usize> = (40..140).collect();
        let rope = Rope::new(RopePairs::Halves, 64, 10_000.0, 1.0, None);
        let mut table = RopeTable::new();
        table.fill(&threads, &rope, &positions);
        let weight: Vec<f32> = (0..64).map(|i| 0.5 + i as f32 / 64.0).collect();
        let x: Vec<f32> = (0..100 * 3 * 64).map(|i| ((i * 31) % 101) as f32 / 17.0 - 3.0).collect();
        for isa in Isa::available() {
            let mut want = vec![0.0; x.len()];
            rms_norm(&threads, isa, &x, &weight, 1e-6, &mut want);
            for (token, heads) in want.chunks_mut(3 * 64).enumerate() {
                heads.chunks_mut(64).for_each(|head| table.turn(token, head));
            }
            let prep = HeadPrep { norm: Some(HeadNorm { weight: &weight, eps: 1e-6 }), rope: Some(&table) };
            let mut got = x.clone();
            prepare_heads(&threads, isa, &prep, 3, 64, &mut got);
            assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{}", isa.name());
            assert!(got != x);
        }
    }
}
