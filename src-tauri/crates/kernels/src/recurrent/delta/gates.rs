//! What a token brings to a delta net, head by head: query and key of unit length, how fast the state decays, how much of
//! it is corrected.
#![allow(unsafe_code)]

use super::shape::{DeltaShape, KeyHeads};
use crate::isa::Isa;
use crate::ops::over_rows;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};
use crate::vmath;

/// The gates of some tokens; kept from call to call.
#[derive(Debug, Default)]
pub struct TokenGates {
    /// How much is corrected: `[n_tokens, n_v_heads]`.
    pub(super) beta: Vec<f32>,
    /// What is left of the state: `[n_tokens, n_v_heads]`.
    pub(super) decay: Vec<f32>,
    /// The products of queries and keys: `[n_tokens, n_k_heads]`.
    pub(super) overlap: Vec<f32>,
}

impl TokenGates {
    pub(super) fn check(&self, n_tokens: usize, shape: &DeltaShape) {
        let lens = [&self.beta, &self.decay, &self.overlap].map(Vec::len);
        let DeltaShape { n_k_heads, n_v_heads, .. } = *shape;
        assert_eq!(
            lens,
            [n_v_heads, n_v_heads, n_k_heads].map(|n| n_tokens * n),
            "gates of {n_tokens} tokens"
        );
    }
}

/// What gates are made of.
#[derive(Debug, Clone, Copy)]
pub struct GateInput<'a> {
    /// The projections.
    pub products: GateProducts<'a>,
    /// A head's rate, negative: `[n_v_heads]`.
    pub rate: &'a [f32],
    /// Added to the projection that the rate is multiplied with: `[n_v_heads]`.
    pub bias: &'a [f32],
}

/// The two projections of tokens, a value for each head.
#[derive(Debug, Clone, Copy)]
pub enum GateProducts<'a> {
    /// `[n_tokens, n_v_heads]` each.
    Apart {
        /// Its sigmoid is how much is corrected.
        beta: &'a [f32],
        /// What is left is `e^(rate · softplus(alpha + bias))`.
        alpha: &'a [f32],
    },
    /// `[n_tokens, n_k_heads, 2, n_v_heads / n_k_heads]`: those of the heads that share a key, first `beta`.
    ByKeyHead(&'a [f32]),
}

/// Brings the queries and keys of `qkv`, `[n_tokens, width]`, to unit length, but for queries `k_dim^−½`, and makes the
/// tokens' gates. A vector is divided by `eps` where that is more than its length.
///
/// # Panics
/// When a slice has another length than the tokens and the shape ask for.
pub fn prepare(
    threads: &Threads,
    isa: Isa,
    shape: &DeltaShape,
    eps: f32,
    qkv: &mut [f32],
    input: GateInput<'_>,
    gates: &mut TokenGates,
) {
    shape.check();
    let (width, DeltaShape { n_k_heads, n_v_heads, .. }) = (shape.width(), *shape);
    assert!(qkv.len().is_multiple_of(width), "{} values in rows of {width}", qkv.len());
    let n_tokens = qkv.len() / width;
    assert_eq!([input.rate.len(), input.bias.len()], [n_v_heads; 2], "rates and biases of {n_v_heads} heads");
    let n_products = match input.products {
        GateProducts::Apart { beta, alpha } => [beta.len(), alpha.len()],
        GateProducts::ByKeyHead(both) => [both.len() / 2, both.len().div_ceil(2)],
    };
    assert_eq!(n_products, [n_tokens * n_v_heads; 2], "products for {n_v_heads} heads of {n_tokens} tokens");
    let TokenGates { beta, decay, overlap } = gates;
    beta.resize(n_tokens * n_v_heads, 0.0);
    decay.resize(n_tokens * n_v_heads, 0.0);
    overlap.resize(n_tokens * n_k_heads, 0.0);
    let [qkv, beta, decay, overlap] = [qkv, beta, decay, overlap].map(SharedMut::new);
    over_rows(threads, n_tokens, width, |tokens| {
        for token in tokens {
            // SAFETY: a token is in one range, and these are its values; all are as long as the shape says.
            unsafe {
                let qk = qkv.range(token * width..token * width + 2 * n_k_heads * shape.k_dim);
                let overlap = overlap.range(token * n_k_heads..(token + 1) * n_k_heads);
                lengthen(isa, shape, eps, qk, overlap);
                let heads = token * n_v_heads..(token + 1) * n_v_heads;
                gates_of(isa, shape, &input, token, beta.range(heads.clone()), decay.range(heads));
            }
        }
    });
}

simd_dispatch! {
    /// Gives queries and keys their lengths, and their products to `overlap`.
    ///
    /// # Safety
    /// `qk` is `[2, n_k_heads, k_dim]`, `overlap` `[n_k_heads]`.
    unsafe fn lengthen(shape: &DeltaShape, eps: f32, qk: &mut [f32], overlap: &mut [f32]) = lengthen_on
}

/// What [`lengthen`] does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The promises of [`lengthen`].
#[inline(always)]
unsafe fn lengthen_on<S: Simd>(shape: &DeltaShape, eps: f32, qk: &mut [f32], overlap: &mut [f32]) {
    let (dim, scale) = (shape.k_dim, 1.0 / (shape.k_dim as f32).sqrt());
    let (queries, keys) = qk.split_at_mut(shape.n_k_heads * dim);
    let heads = queries.chunks_exact_mut(dim).zip(keys.chunks_exact_mut(dim));
    for ((query, key), overlap) in heads.zip(overlap) {
        // SAFETY: the instruction set by the caller; vectors of one length.
        unsafe {
            let of_query = scale / dot::<S>(query, query).sqrt().max(eps);
            let of_key = 1.0 / dot::<S>(key, key).sqrt().max(eps);
            query.iter_mut().for_each(|x| *x *= of_query);
            key.iter_mut().for_each(|x| *x *= of_key);
            *overlap = dot::<S>(query, key);
        }
    }
}

/// The product of two vectors of one length.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let whole = a.len() / LANES * LANES;
    // SAFETY: whole groups of lanes of both slices, then padded copies of their ends.
    unsafe {
        let mut sum = S::zero();
        for at in (0..whole).step_by(LANES) {
            sum = S::fma(S::load(a.as_ptr().add(at)), S::load(b.as_ptr().add(at)), sum);
        }
        let mut ends = [[0f32; LANES]; 2];
        ends[0][..a.len() - whole].copy_from_slice(&a[whole..]);
        ends[1][..a.len() - whole].copy_from_slice(&b[whole..]);
        S::sum(S::fma(S::load(ends[0].as_ptr()), S::load(ends[1].as_ptr()), sum))
    }
}

/// Sixteen heads at most, of one token.
#[derive(Clone, Copy)]
struct Heads {
    beta: [f32; LANES],
    alpha: [f32; LANES],
    rate: [f32; LANES],
    bias: [f32; LANES],
}

simd_dispatch! {
    /// Makes one token's gates.
    ///
    /// # Safety
    /// The input has the token; `beta` and `decay` are `[n_v_heads]`.
    unsafe fn gates_of(
        shape: &DeltaShape,
        input: &GateInput<'_>,
        token: usize,
        beta: &mut [f32],
        decay: &mut [f32],
    ) = gates_of_on
}

/// What [`gates_of`] does, with one instruction set: groups of lanes, of which the last is padded, so that a head's bits
/// are its own.
///
/// # Safety
/// The instruction set of `S`. The promises of [`gates_of`].
#[inline(always)]
unsafe fn gates_of_on<S: Simd>(
    shape: &DeltaShape,
    input: &GateInput<'_>,
    token: usize,
    beta: &mut [f32],
    decay: &mut [f32],
) {
    let n_heads = shape.n_v_heads;
    for first in (0..n_heads).step_by(LANES) {
        let n = LANES.min(n_heads - first);
        let mut heads =
            Heads { beta: [0.0; LANES], alpha: [0.0; LANES], rate: [0.0; LANES], bias: [0.0; LANES] };
        for i in 0..n {
            let head = first + i;
            let (of_beta, of_alpha) = match input.products {
                GateProducts::Apart { beta, alpha } => {
                    (beta[token * n_heads + head], alpha[token * n_heads + head])
                }
                GateProducts::ByKeyHead(both) => {
                    let (at, shared) = place_by_key_head(shape, head);
                    (both[2 * token * n_heads + at], both[2 * token * n_heads + at + shared])
                }
            };
            (heads.beta[i], heads.alpha[i]) = (of_beta, of_alpha);
            (heads.rate[i], heads.bias[i]) = (input.rate[head], input.bias[head]);
        }
        // SAFETY: the instruction set by the caller; arrays of lanes.
        unsafe {
            let time = S::add(S::load(heads.alpha.as_ptr()), S::load(heads.bias.as_ptr()));
            let lost = S::mul(S::load(heads.rate.as_ptr()), vmath::softplus::<S>(time));
            S::store(heads.alpha.as_mut_ptr(), vmath::exp::<S>(lost));
            let corrected = vmath::sigmoid::<S>(S::load(heads.beta.as_ptr()));
            S::store(heads.beta.as_mut_ptr(), corrected);
        }
        beta[first..first + n].copy_from_slice(&heads.beta[..n]);
        decay[first..first + n].copy_from_slice(&heads.alpha[..n]);
    }
}

/// Where among a token's products by key heads a head's `beta` is, and how far behind it its `alpha`.
fn place_by_key_head(shape: &DeltaShape, head: usize) -> (usize, usize) {
    let shared = shape.n_v_heads / shape.n_k_heads;
    let among = match shape.key_heads {
        KeyHeads::InTurn => head / shape.n_k_heads,
        KeyHeads::Neighbours => head % shared,
    };
    (2 * shared * shape.key_head(head) + among, shared)
}
