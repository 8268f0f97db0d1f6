//! Attention of a chunk's queries to the pool: keys and values are gathered by slot, then it is dense.

use candle_core::{Result, Tensor};

use super::kv_pool::KvPool;
use super::ops;
use super::part::Part;
use super::sdpa::Sdpa;
use super::tiles::{Tile, Tiles};
use crate::plan::model_plan::AttentionPlan;

/// The attended values `[n_tokens, n_heads × v_dim]` of the queries `q` `[n_tokens, n_heads, k_dim]`.
pub(super) fn attend(
    pool: &KvPool,
    k: &Part,
    v: &Part,
    plan: &AttentionPlan,
    tiles: &Tiles,
    q: &Tensor,
) -> Result<Tensor> {
    let attended = |tile: &Tile| {
        let q = q.narrow(0, tile.tokens.start, tile.tokens.len())?;
        let keys = pool.gather(k, tile)?;
        let values = pool.gather(v, tile)?;
        match Sdpa::of(pool.fused(), plan, tile) {
            Some(sdpa) => sdpa.attend(tile, &q, &keys, &values),
            None => dense(plan, tile, &q, &keys, &values),
        }
    };
    match tiles.tiles.as_slice() {
        [tile] => attended(tile),
        tiles => Tensor::cat(&tiles.iter().map(attended).collect::<Result<Vec<_>>>()?, 0),
    }
}

/// By the formula: every score of the tile at once.
///
/// `q` is `[n_rows × n_queries, n_heads, k_dim]`, keys and values `[n_rows, n_kv_heads, n_seen, dim]`.
fn dense(plan: &AttentionPlan, tile: &Tile, q: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
    let Tile { n_rows, n_queries, n_seen, .. } = *tile;
    let (_, n_kv_heads, _, k_dim) = keys.dims4()?;
    let v_dim = values.dim(3)?;
    let per_kv = plan.n_heads / n_kv_heads;
    // The queries that share a KV head side by side: one product for each row and KV head.
    let q = q.affine(plan.scale.into(), 0.0)?.reshape((n_rows, n_queries, n_kv_heads, per_kv, k_dim))?;
    let q = q.permute((0, 2, 3, 1, 4))?.contiguous()?;
    let q = q.reshape((n_rows * n_kv_heads, per_kv * n_queries, k_dim))?;
    let keys = keys.reshape((n_rows * n_kv_heads, n_seen, k_dim))?;
    let values = values.reshape((n_rows * n_kv_heads, n_seen, v_dim))?;

    let mut scores = q.matmul(&keys.t()?)?;
    if let Some(cap) = plan.softcap {
        scores = ops::softcap(&scores, cap)?;
    }
    if let Some(mask) = &tile.mask {
        scores = scores.reshape((n_rows, plan.n_heads, n_queries, n_seen))?.broadcast_add(mask)?;
        scores = scores.reshape((n_rows * n_kv_heads, per_kv * n_queries, n_seen))?;
    }
    let out = ops::softmax(&scores)?.matmul(&values)?;
    let out = out.reshape((n_rows, n_kv_heads, per_kv, n_queries, v_dim))?;
    out.permute((0, 3, 1, 2, 4))?.contiguous()?.reshape((n_rows * n_queries, plan.n_heads * v_dim))
}
