//! What latent attention does to vectors of which one part is normed or multiplied and the other one turned.
#![allow(unsafe_code)]

use super::heads::HeadNorm;
use super::norm::norm_in_place;
use super::over_rows;
use super::rope::RopeTable;
use crate::isa::Isa;
use crate::simd::{Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};
use std::ops::Range;

/// Norms the first values of each token's vector, as many as the norm has weights, and turns all that are behind them, in
/// place: `x` is `[n_tokens, n_normed + n_turned]`.
///
/// # Panics
/// When the norm and the table do not make up the vectors, or the table is of other tokens.
pub fn prepare_latent(threads: &Threads, isa: Isa, norm: HeadNorm<'_>, rope: &RopeTable, x: &mut [f32]) {
    let width = norm.weight.len() + rope.n_rot();
    assert_eq!(x.len(), rope.n_tokens() * width, "{} vectors of {width} values", rope.n_tokens());
    let x = SharedMut::new(x);
    over_rows(threads, rope.n_tokens(), width, |tokens| {
        for token in tokens {
            // SAFETY: a token is in one range, and its values are its own.
            let vector = unsafe { x.range(token * width..(token + 1) * width) };
            let (latent, rest) = vector.split_at_mut(norm.weight.len());
            // SAFETY: as many values as weights.
            unsafe { norm_vector(isa, latent, norm) };
            rope.turn(token, rest);
        }
    });
}

simd_dispatch! { unsafe fn norm_vector(x: &mut [f32], norm: HeadNorm<'_>) = norm_vector_on }

/// Norms one vector.
///
/// # Safety
/// The instruction set of `S`; as many weights as values.
#[inline(always)]
unsafe fn norm_vector_on<S: Simd>(x: &mut [f32], norm: HeadNorm<'_>) {
    // SAFETY: the caller's promise.
    unsafe { norm_in_place::<S>(x, norm.weight, norm.eps) }
}

/// Vectors of heads: `[n_tokens, n_heads, dim]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// Heads of a token.
    pub n_heads: usize,
    /// Values of a head.
    pub dim: usize,
}

impl HeadShape {
    fn width(self) -> usize {
        self.n_heads * self.dim
    }

    fn n_tokens(self, n_values: usize) -> usize {
        let width = self.width();
        assert!(width > 0 && n_values.is_multiple_of(width), "{n_values} values in rows of {width}");
        n_values / width
    }
}

/// Sorts values `part` of each head of `x` by heads: `[n_heads, n_tokens, part]`.
///
/// # Panics
/// When `x` is no whole number of tokens, a head has no such part, or `out` has another length.
pub fn by_heads(threads: &Threads, shape: HeadShape, x: &[f32], part: Range<usize>, out: &mut [f32]) {
    let (n_tokens, n_values) = (shape.n_tokens(x.len()), part.len());
    assert!(part.end <= shape.dim, "values {part:?} of heads of {}", shape.dim);
    assert_eq!(out.len(), n_tokens * shape.n_heads * n_values, "room for the sorted values");
    let out = SharedMut::new(out);
    over_rows(threads, shape.n_heads * n_tokens, n_values, |vectors| {
        for vector in vectors {
            let (head, token) = (vector / n_tokens, vector % n_tokens);
            let from = token * shape.width() + head * shape.dim + part.start;
            // SAFETY: a vector is in one range, and its values are its own.
            let to = unsafe { out.range(vector * n_values..(vector + 1) * n_values) };
            to.copy_from_slice(&x[from..from + n_values]);
        }
    });
}

/// Undoes [`by_heads`]: puts the values of `x`, `[n_heads, n_tokens, part]`, into `part` of each head of `out`. The rest
/// of `out` stays as it is.
///
/// # Panics
/// When `out` is no whole number of tokens, a head has no such part, or `x` has another length.
pub fn by_tokens(threads: &Threads, x: &[f32], shape: HeadShape, part: Range<usize>, out: &mut [f32]) {
    let (n_tokens, n_values) = (shape.n_tokens(out.len()), part.len());
    assert!(part.end <= shape.dim, "values {part:?} of heads of {}", shape.dim);
    assert_eq!(x.len(), n_tokens * shape.n_heads * n_values, "values to sort");
    let out = SharedMut::new(out);
    over_rows(threads, n_tokens, shape.n_heads * n_values, |tokens| {
        for (token, head) in tokens.flat_map(|token| (0..shape.n_heads).map(move |head| (token, head))) {
            let (from, to) = ((head * n_tokens + token) * n_values, token * shape.width() + head * shape.dim);
            // SAFETY: a token is in one range, and its values are its own.
            let to = unsafe { out.range(to + part.start..to + part.end) };
            to.copy_from_slice(&x[from..from + n_values]);
        }
    });
}

/// Turns the last values of each head of `x`, as many as the table turns, and puts them at the end of that head of `out`,
/// whose heads may have another size. The rest of `out` stays as it is.
///
/// # Panics
/// When the table is of other tokens, or `x` or `out` has another length than its heads ask for, or these are too short.
pub fn turn_ends(
    threads: &Threads,
    rope: &RopeTable,
    (shape, x): (HeadShape, &[f32]),
    (out_dim, out): (usize, &mut [f32]),
) {
    let (n_tokens, n_rot) = (shape.n_tokens(x.len()), rope.n_rot());
    let out_shape = HeadShape { dim: out_dim, ..shape };
    assert_eq!(rope.n_tokens(), n_tokens, "tokens of the rope table");
    assert_eq!(out.len(), n_tokens * out_shape.width(), "room for {n_tokens} tokens");
    assert!(n_rot <= shape.dim.min(out_dim), "{n_rot} turned values in heads of {} and {out_dim}", shape.dim);
    let out = SharedMut::new(out);
    over_rows(threads, n_tokens, shape.n_heads * n_rot, |tokens| {
        for (token, head) in tokens.flat_map(|token| (0..shape.n_heads).map(move |head| (token, head))) {
            let from = token * shape.width() + (head + 1) * shape.dim;
            let to = token * out_shape.width() + (head + 1) * out_dim;
            // SAFETY: a token is in one range, and its values are its own.
            let end = unsafe { out.range(to - n_rot..to) };
            end.copy_from_slice(&x[from - n_rot..from]);
            rope.turn(token, end);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Rope, RopePairs, rms_norm};

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 31) % 101) as f32 / 17.0 - 3.0).collect()
    }

    fn table(threads: &Threads, n_tokens: usize, n_rot: usize) -> RopeTable {
        let rope = Rope::new(RopePairs::Interleaved, n_rot, 10_000.0, 1.0, None);
        let mut table = RopeTable::new();
        table.fill(threads, &rope, &(40..40 + n_tokens).collect::<Vec<_>>());
        table
    }

    #[test]
    fn a_latent_vector_is_normed_in_front_and_turned_behind() {
        let threads = Threads::new(2);
        let (table, weight) = (table(&threads, 90, 16), values(48));
        let x = values(90 * 64);
        for isa in Isa::available() {
            let mut got = x.clone();
            prepare_latent(&threads, isa, HeadNorm { weight: &weight, eps: 1e-6 }, &table, &mut got);
            for (token, (got, x)) in got.chunks(64).zip(x.chunks(64)).enumerate() {
                let mut want = vec![0.0; 48];
                rms_norm(&threads, isa, &x[..48], &weight, 1e-6, &mut want);
                let mut rest = x[48..].to_vec();
                table.turn(token, &mut rest);
                assert!(got[..48] == want && got[48..] == rest, "{} token {token}", isa.name());
            }
        }
    }

    #[test]
    fn values_are_sorted_by_heads_and_back() {
        let shape = HeadShape { n_heads: 3, dim: 10 };
        let x = values(700 * 30);
        let mut got = vec![0.0; 700 * 3 * 4];
        by_heads(&Threads::new(2), shape, &x, 2..6, &mut got);
        for (i, got) in got.chunks(4).enumerate() {
            let (head, token) = (i / 700, i % 700);
            assert_eq!(got, &x[token * 30 + head * 10 + 2..][..4]);
        }
        let mut back = x.clone();
        back.chunks_mut(10).for_each(|head| head[2..6].fill(0.0));
        by_tokens(&Threads::new(2), &got, shape, 2..6, &mut back);
        assert!(back == x);
    }

    #[test]
    fn the_ends_of_heads_are_turned_into_heads_of_another_size() {
        let threads = Threads::new(2);
        let (table, x) = (table(&threads, 50, 6), values(50 * 30));
        let mut got = vec![7.0; 50 * 3 * 8];
        turn_ends(&threads, &table, (HeadShape { n_heads: 3, dim: 10 }, &x), (8, &mut got));
        for (i, got) in got.chunks(8).enumerate() {
            let mut want = x[i * 10 + 4..i * 10 + 10].to_vec();
            table.turn(i / 3, &mut want);
            assert!(got[..2] == [7.0; 2] && got[2..] == want, "head {i}");
        }
    }
}
