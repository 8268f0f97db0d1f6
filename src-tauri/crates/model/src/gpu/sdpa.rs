//! Attention by candle's fused kernels for Metal, where their limits allow; the CPU's form computes the same.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

#[cfg(all(feature = "metal", target_os = "macos"))]
use super::metal;
use super::tiles::Tile;
use crate::plan::model_plan::AttentionPlan;

/// The head sizes of the kernel for one query.
const VECTOR_DIMS: [usize; 5] = [32, 64, 96, 128, 256];

/// The head sizes of the kernel for many queries: in f32 the wider ones need more memory than a threadgroup has.
const FULL_DIMS: [usize; 6] = [32, 64, 72, 80, 96, 128];

/// Below this many queries the kernel for many works mostly on padding.
const FULL_QUERIES: usize = 9;

/// A fused attention that a tile's limits allow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sdpa {
    /// One query a row.
    Vector { scale: f32, softcap: Option<f32> },
    /// Many queries of one row, each of which sees everything up to itself.
    Full { scale: f32 },
}

impl Sdpa {
    /// The kernel that computes `tile`, if one does and `fused` ones are wanted.
    pub(super) fn of(fused: bool, plan: &AttentionPlan, tile: &Tile) -> Option<Sdpa> {
        let AttentionPlan { k_dim, v_dim, scale, softcap, .. } = *plan;
        // The kernels take a cap of 1 for none.
        if !fused || k_dim != v_dim || softcap == Some(1.0) {
            return None;
        }
        if tile.n_queries == 1 && VECTOR_DIMS.contains(&k_dim) {
            Some(Sdpa::Vector { scale, softcap })
        } else if tile.n_rows == 1
            && tile.n_queries >= FULL_QUERIES
            && tile.is_causal
            && softcap.is_none()
            && FULL_DIMS.contains(&k_dim)
        {
            Some(Sdpa::Full { scale })
        } else {
            None
        }
    }

    /// The attended values of `tile`; operands and result as in `attention.rs`.
    pub(super) fn attend(&self, tile: &Tile, q: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
        // Each row by itself: the kernels know nothing of padding.
        let row = |(i, &n_seen): (usize, &usize)| {
            let q = q.narrow(0, i * tile.n_queries, tile.n_queries)?.unsqueeze(0)?.transpose(1, 2)?;
            let seen = |x: &Tensor| x.narrow(0, i, 1)?.narrow(2, 0, n_seen);
            q.apply_op3_no_bwd(&seen(keys)?, &seen(values)?, self)
        };
        match tile.row_seen.as_slice() {
            [n_seen] => row((0, n_seen)),
            rows => Tensor::cat(&rows.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?, 0),
        }
    }

    /// What goes into the softmax for a product of query and key.
    fn score(&self, product: f32) -> f32 {
        match *self {
            Sdpa::Vector { scale, softcap: Some(cap) } => cap * (product * scale / cap).tanh(),
            Sdpa::Vector { scale, softcap: None } | Sdpa::Full { scale } => product * scale,
        }
    }
}

/// `q` is `[1, n_heads, n_queries, dim]`, keys and values are `[1, n_kv_heads, n_seen, dim]`, all in any strides but
/// the innermost; the result is `[n_queries, n_heads × dim]`.
impl CustomOp3 for Sdpa {
    fn name(&self) -> &'static str {
        "sdpa"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_l: &Layout,
        k: &CpuStorage,
        k_l: &Layout,
        v: &CpuStorage,
        v_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (q.as_slice::<f32>()?, k.as_slice::<f32>()?, v.as_slice::<f32>()?);
        let ((_, n_heads, n_queries, dim), (_, n_kv_heads, n_seen, _)) =
            (q_l.shape().dims4()?, k_l.shape().dims4()?);
        let vector = |l: &Layout, head: usize, i: usize| {
            let start = l.start_offset() + head * l.stride()[1] + i * l.stride()[2];
            start..start + dim
        };
        let mut out = vec![0.0; n_queries * n_heads * dim];
        for (i, out) in out.chunks_exact_mut(dim).enumerate() {
            let (query, head) = (i / n_heads, i % n_heads);
            let kv_head = head / (n_heads / n_kv_heads);
            let q = &q[vector(q_l, head, query)];
            let n_visible = n_seen - n_queries + query + 1;
            let score = |j: usize| {
                let k = &k[vector(k_l, kv_head, j)];
                self.score(q.iter().zip(k).map(|(q, k)| q * k).sum())
            };
            let scores: Vec<f32> = (0..n_visible).map(score).collect();
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = scores.iter().map(|score| (score - max).exp()).sum();
            for (j, score) in scores.iter().enumerate() {
                let weight = (score - max).exp() / sum;
                out.iter_mut().zip(&v[vector(v_l, kv_head, j)]).for_each(|(out, v)| *out += weight * v);
            }
        }
        Ok((CpuStorage::F32(out), (n_queries, n_heads * dim).into()))
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        q: &candle_core::MetalStorage,
        q_l: &Layout,
        k: &candle_core::MetalStorage,
        k_l: &Layout,
        v: &candle_core::MetalStorage,
        v_l: &Layout,
    ) -> Result<(candle_core::MetalStorage, Shape)> {
        let (_, n_heads, n_queries, dim) = q_l.shape().dims4()?;
        let (q, k, v) = ((q, q_l), (k, k_l), (v, v_l));
        let out = match *self {
            Sdpa::Vector { scale, softcap } => metal::sdpa_of_one((scale, softcap), q, k, v)?,
            Sdpa::Full { scale } => metal::sdpa_of_many(scale, q, k, v)?,
        };
        Ok((out, (n_queries, n_heads * dim).into()))
    }
}
