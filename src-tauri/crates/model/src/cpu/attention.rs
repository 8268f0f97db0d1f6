//! Softmax attention by the CPU's kernels.

use kernels::activations::Form;
use kernels::attention::{AttentionParams, attention};
use kernels::kv::{KeyInput, store_kv};
use kernels::ops::{self, RopeTable, prepare_heads, split_pairs};
use kernels::weights::Weights;
use scheduler::RunError;

use super::backend::{Buffers, Cpu, project};
use super::place::KvPlace;
use crate::plan::model_plan::{AttentionPlan, KvPlan, NormOver, Temperature};
use crate::run::backend::{Attention, Piece};

impl Cpu {
    /// Leave what each head gathers among the activations, as the branch's last product takes it.
    pub(super) fn attend(
        &mut self,
        x: &[f32],
        piece: &Piece<'_, Vec<RopeTable>>,
        layer: &Attention<'_, Weights, Vec<f32>>,
    ) -> Result<(), RunError> {
        let Attention { layer_idx, plan, weights } = *layer;
        let AttentionPlan { n_heads, k_dim, v_dim, .. } = *plan;
        let n = piece.tokens.len();
        let rope = plan.rope_idx.map(|idx| &piece.prepared[idx]);
        let norms = [&weights.q_norm, &weights.k_norm].map(Option::as_ref);
        let (of_heads, of_tokens) = match plan.norm_over {
            NormOver::Heads => (norms, [None; 2]),
            NormOver::Tokens => ([None; 2], norms),
        };
        let [q_prep, k_prep] = of_heads.map(|norm| self.head_prep(norm, rope));
        let projections = [Some(&weights.q), weights.k.as_ref(), weights.v.as_ref()];
        let form = Form::of(projections.into_iter().flatten().map(|projection| &projection.matrix));
        self.enter(&x[self.values(&piece.tokens)], weights.norm.as_ref(), form);
        let Cpu { threads, isa, arena, layers, norm_eps, ones, buffers, .. } = self;
        let (isa, KvPlace { kv, group_idx }) = (*isa, &layers[layer_idx].need_kv(layer_idx)?);
        let Buffers { acts, q, k, v, attended, normed, gate, up: q_and_gate, .. } = buffers;

        let queries = if plan.is_gated { &mut *q_and_gate } else { &mut *q };
        let parts = projections.into_iter().zip([queries, &mut *k, &mut *v]);
        project(threads, isa, acts, parts.filter_map(|(projection, out)| Some((projection?, out))).collect());
        if plan.is_gated {
            q.resize(n * n_heads * k_dim, 0.0);
            gate.resize(n * n_heads * k_dim, 0.0);
            split_pairs(threads, k_dim, q_and_gate, q, gate);
        }
        let has_kv = plan.kv == KvPlan::Own;
        if has_kv && weights.v.is_none() {
            v.clone_from(k);
        }
        if has_kv && plan.norms_values {
            normed.resize(v.len(), 0.0);
            ops::rms_norm(threads, isa, v, &ones[..v_dim], *norm_eps, normed);
            std::mem::swap(v, normed);
        }
        for (rows, weight) in [&mut *q, &mut *k].into_iter().zip(of_tokens) {
            let Some(weight) = weight else { continue };
            normed.resize(rows.len(), 0.0);
            ops::rms_norm(threads, isa, rows, weight, *norm_eps, normed);
            std::mem::swap(rows, normed);
        }

        prepare_heads(threads, isa, &q_prep, n_heads, k_dim, q);
        if let Some(temperature) = plan.temperature {
            let factor = |&position: &usize| Temperature::at(temperature, position);
            let factors: Vec<f32> = piece.chunk.positions.iter().map(factor).collect();
            ops::scale_rows(threads, isa, q, &factors);
        }
        let rows = &piece.chunk.rows[*group_idx];
        if has_kv {
            store_kv(threads, isa, arena, kv, rows, KeyInput { k, prep: k_prep }, v);
        }

        let params = AttentionParams {
            n_heads,
            scale: plan.scale,
            window: plan.span.window(),
            ahead: plan.ahead,
            softcap: plan.softcap,
            sinks: weights.sinks.as_deref(),
        };
        attended.resize(n * n_heads * v_dim, 0.0);
        attention(threads, isa, arena, kv, &params, rows, q, attended);
        if plan.is_gated {
            ops::sigmoid_mul(threads, isa, attended, gate);
        }
        acts.quantize(threads, isa, Form::of([&weights.end.matrix]), attended, n_heads * v_dim);
        Ok(())
    }
}
