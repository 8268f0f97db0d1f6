//! Latent attention by the CPU's kernels.
//!
//! ```text
//! stream ─┬▶ queries   [n_nope ; n_rot] a head ── the head's k_b ; turned ──▶ [n_latent ; n_rot] a head
//!         └▶ keys      [n_latent ; n_rot] a token ── normed ; turned ──▶ the pool
//! attention ──▶ [n_latent] a head ── the head's v_b ──▶ [v_dim] a head ──▶ the branch's last product
//! ```

use kernels::activations::{Form, RmsNorm};
use kernels::attention::{Ahead, AttentionParams, attention};
use kernels::kv::{KeyInput, store_kv};
use kernels::matmul::{Epilogue, Product, matmul, matmul_each, matmul_heads};
use kernels::ops::latent::{HeadShape, by_heads, by_tokens, prepare_latent, turn_ends};
use kernels::ops::{HeadNorm, HeadPrep, RopeTable, scale_rows};
use kernels::weights::Weights;
use scheduler::RunError;

use super::backend::{Buffers, Cpu};
use super::place::KvPlace;
use crate::plan::model_plan::LatentPlan;
use crate::plan::weights::LatentQueries;
use crate::run::backend::{Latent, Piece};

impl Cpu {
    /// Leave each head's output among the activations, as the branch's last product takes it.
    pub(super) fn attend_latent(
        &mut self,
        x: &[f32],
        piece: &Piece<'_, Vec<RopeTable>>,
        layer: &Latent<'_, Weights, Vec<f32>>,
    ) -> Result<(), RunError> {
        let Latent { layer_idx, plan, weights } = *layer;
        let LatentPlan { n_heads, n_latent, n_nope, v_dim, .. } = *plan;
        let (n, k_dim, rope) = (piece.tokens.len(), plan.k_dim(), &piece.prepared[plan.rope_idx]);
        let (LatentQueries::Whole(first) | LatentQueries::Low { down: first, .. }) = &weights.queries;
        self.enter(&x[self.values(&piece.tokens)], Some(&weights.norm), Form::of([first, &weights.kv]));
        let Cpu { threads, isa, arena, layers, norm_eps, buffers, .. } = self;
        let (isa, eps) = (*isa, *norm_eps);
        let KvPlace { kv, group_idx } = layers[layer_idx].need_kv(layer_idx)?;
        let Buffers { acts, q, k, v: latent_q, attended, gate: sorted, up: products, out: low, .. } = buffers;

        let of_query = HeadShape { n_heads, dim: n_nope + plan.n_rot };
        q.resize(n * n_heads * of_query.dim, 0.0);
        k.resize(n * k_dim, 0.0);
        let store = |weights, out| Product { weights, out, epilogue: Epilogue::Store };
        match &weights.queries {
            LatentQueries::Whole(matrix) => {
                matmul_each(threads, isa, acts, &mut [store(matrix, q), store(&weights.kv, k)]);
            }
            LatentQueries::Low { down, norm, up } => {
                low.resize(n * down.n_out(), 0.0);
                matmul_each(threads, isa, acts, &mut [store(down, low), store(&weights.kv, k)]);
                acts.rms_norm_quantize(threads, isa, Form::of([up]), low, RmsNorm { weight: norm, eps });
                matmul(threads, isa, up, acts, q, Epilogue::Store);
            }
        }
        prepare_latent(threads, isa, HeadNorm { weight: &weights.kv_norm, eps }, rope, k);

        sorted.resize(n * n_heads * n_nope, 0.0);
        by_heads(threads, of_query, q, 0..n_nope, sorted);
        acts.quantize(threads, isa, Form::of(&weights.k_b), sorted, n_nope);
        products.resize(n * n_heads * n_latent, 0.0);
        matmul_heads(threads, isa, &weights.k_b, acts, products);
        latent_q.resize(n * n_heads * k_dim, 0.0);
        by_tokens(threads, products, HeadShape { n_heads, dim: k_dim }, 0..n_latent, latent_q);
        turn_ends(threads, rope, (of_query, q), (k_dim, latent_q));
        if let Some(temperature) = plan.temperature {
            let factors: Vec<f32> = piece.chunk.positions.iter().map(|&at| temperature.at(at)).collect();
            scale_rows(threads, isa, latent_q, &factors);
        }

        let rows = &piece.chunk.rows[*group_idx];
        store_kv(threads, isa, arena, kv, rows, KeyInput { k, prep: HeadPrep::default() }, &[]);
        let (scale, ahead) = (plan.scale, Ahead::Hidden);
        let params = AttentionParams { n_heads, scale, window: None, ahead, softcap: None, sinks: None };
        attended.resize(n * n_heads * n_latent, 0.0);
        attention(threads, isa, arena, kv, &params, rows, latent_q, attended);

        sorted.resize(n * n_heads * n_latent, 0.0);
        by_heads(threads, HeadShape { n_heads, dim: n_latent }, attended, 0..n_latent, sorted);
        acts.quantize(threads, isa, Form::of(&weights.v_b), sorted, n_latent);
        products.resize(n * n_heads * v_dim, 0.0);
        matmul_heads(threads, isa, &weights.v_b, acts, products);
        attended.resize(n * n_heads * v_dim, 0.0);
        by_tokens(threads, products, HeadShape { n_heads, dim: v_dim }, 0..v_dim, attended);
        acts.quantize(threads, isa, Form::of([&weights.end.matrix]), attended, n_heads * v_dim);
        Ok(())
    }
}
