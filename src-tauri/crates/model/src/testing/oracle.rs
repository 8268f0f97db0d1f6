//! The logits of a model straight from the formulas, in f32: slow, whole sequences only. The oracle of tests.
//!
//! It shares no arithmetic with the kernels but the dequantising of weights, and what its layers have it sees in the
//! file: a norm or a bias that is there is used.

use scheduler::AttentionSpan;

use crate::families;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, AttentionPlan, FeedForwardPlan, GatedPlan, ModelPlan, NormOver};
use crate::plan::rope_plan::{RopePairs, RopePlan};

/// The logits of every position, `[n_tokens, n_vocab]`.
pub(crate) fn logits(gguf: &Gguf, tokens: &[u32]) -> Vec<f32> {
    let plan = families::plan_of(gguf).unwrap();
    let oracle = Oracle { gguf, plan: &plan };
    let hidden = oracle.hidden(tokens);
    let head = if oracle.has("output.weight") { "output" } else { "token_embd" };
    let mut logits = oracle.linear(head, &hidden);
    logits.iter_mut().for_each(|x| *x *= plan.logit_scale);
    if let Some(cap) = plan.logit_softcap {
        logits.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
    }
    logits
}

struct Oracle<'a> {
    gguf: &'a Gguf,
    plan: &'a ModelPlan,
}

impl Oracle<'_> {
    /// The normed output of the last layer, `[n_tokens, n_embd]`.
    fn hidden(&self, tokens: &[u32]) -> Vec<f32> {
        let plan = self.plan;
        let embeddings = self.tensor("token_embd.weight");
        let row = |token: &u32| &embeddings[*token as usize * plan.n_embd..][..plan.n_embd];
        let mut x: Vec<f32> = tokens.iter().flat_map(row).map(|x| x * plan.embedding_scale).collect();
        for layer in 0..plan.layers.len() {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let normed = self.norm_if_there(&name("attn_norm"), x.clone());
            let out = self.attention(layer, &normed);
            let out = self.norm_if_there(&name("post_attention_norm"), out);
            x.iter_mut().zip(&out).for_each(|(x, out)| *x += plan.branch_scale * out);

            let normed = self.norm_if_there(&name("ffn_norm"), x.clone());
            let gate = self.linear(&name("ffn_gate"), &normed);
            let up = self.linear(&name("ffn_up"), &normed);
            let FeedForwardPlan::Gated(GatedPlan { activation, .. }) = plan.layers[layer].feed_forward else {
                panic!("a feed-forward that is not gated");
            };
            let gated: Vec<f32> =
                gate.iter().zip(&up).map(|(gate, up)| activate(activation, *gate) * up).collect();
            let out = self.linear(&name("ffn_down"), &gated);
            let out = self.norm_if_there(&name("post_ffw_norm"), out);
            x.iter_mut().zip(&out).for_each(|(x, out)| *x += plan.branch_scale * out);
        }
        self.norm("output_norm", &x)
    }

    fn attention(&self, layer: usize, x: &[f32]) -> Vec<f32> {
        let attention = *self.plan.layers[layer].softmax().unwrap();
        let AttentionPlan { n_heads, n_kv_heads, k_dim, v_dim, span, scale, softcap, .. } = attention;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let heads = |part: &str| {
            let projected = self.linear(&name(part), x);
            let norm = name(&format!("{part}_norm"));
            if self.has(&format!("{norm}.weight")) {
                let of_tokens = self.tensor(&format!("{norm}.weight")).len() != k_dim;
                assert_eq!(of_tokens, attention.norm_over == NormOver::Tokens, "{norm}");
            }
            self.norm_if_there(&norm, projected)
        };
        let (mut q, mut k, v) = (heads("attn_q"), heads("attn_k"), self.linear(&name("attn_v"), x));
        if let Some(rope_idx) = attention.rope_idx {
            rotate(&self.plan.ropes[rope_idx], &mut q, n_heads, k_dim);
            rotate(&self.plan.ropes[rope_idx], &mut k, n_kv_heads, k_dim);
        }
        if let Some(temperature) = attention.temperature {
            for (position, q) in q.chunks_mut(n_heads * k_dim).enumerate() {
                q.iter_mut().for_each(|q| *q *= temperature.at(position));
            }
        }

        let n = x.len() / self.plan.n_embd;
        let mut out = vec![0.0; n * n_heads * v_dim];
        for (i, head) in (0..n).flat_map(|i| (0..n_heads).map(move |head| (i, head))) {
            let kv_head = head / (n_heads / n_kv_heads);
            let first = match span {
                AttentionSpan::Full => 0,
                AttentionSpan::Window { tokens } => (i + 1).saturating_sub(tokens),
            };
            let q = &q[(i * n_heads + head) * k_dim..][..k_dim];
            let score = |j: usize| {
                let k = &k[(j * n_kv_heads + kv_head) * k_dim..][..k_dim];
                let score = dot(q, k) * scale;
                softcap.map_or(score, |cap| cap * (score / cap).tanh())
            };
            let scores: Vec<f32> = (first..=i).map(score).collect();
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = scores.iter().map(|score| (score - max).exp()).sum();
            let out = &mut out[(i * n_heads + head) * v_dim..][..v_dim];
            for (j, score) in (first..).zip(&scores) {
                let v = &v[(j * n_kv_heads + kv_head) * v_dim..][..v_dim];
                out.iter_mut().zip(v).for_each(|(out, v)| *out += (score - max).exp() / sum * v);
            }
        }
        self.linear(&name("attn_output"), &out)
    }

    /// Rows of `x` times the matrix `name`, and its bias if the file has one.
    fn linear(&self, name: &str, x: &[f32]) -> Vec<f32> {
        let weights = self.tensor(&format!("{name}.weight"));
        let n_in = self.gguf.tensor(&format!("{name}.weight")).unwrap().shape[0];
        let mut out: Vec<f32> =
            x.chunks(n_in).flat_map(|x| weights.chunks(n_in).map(|row| dot(row, x))).collect();
        let bias = format!("{name}.bias");
        if self.has(&bias) {
            let bias = self.tensor(&bias);
            out.chunks_mut(bias.len())
                .for_each(|row| row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias));
        }
        out
    }

    fn norm_if_there(&self, name: &str, x: Vec<f32>) -> Vec<f32> {
        if self.has(&format!("{name}.weight")) { self.norm(name, &x) } else { x }
    }

    fn norm(&self, name: &str, x: &[f32]) -> Vec<f32> {
        let weight = self.tensor(&format!("{name}.weight"));
        let normed = |row: &[f32]| -> Vec<f32> {
            let scale = 1.0 / (dot(row, row) / row.len() as f32 + self.plan.norm_eps).sqrt();
            row.iter().zip(&weight).map(|(x, w)| x * scale * w).collect()
        };
        x.chunks(weight.len()).flat_map(normed).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let tensor = self.gguf.tensor(name).unwrap();
        let mut values = vec![0.0; tensor.n_values()];
        kernels::ggml::dequantize(tensor.ty, &self.gguf.data(tensor).unwrap(), &mut values);
        let scale = format!("{}.scale", name.trim_end_matches(".weight"));
        if self.has(&scale) {
            let scale = self.tensor(&scale)[0];
            values.iter_mut().for_each(|value| *value *= scale);
        }
        values
    }
}

/// Rotates `x`, `[n_tokens, n_heads, dim]`.
fn rotate(rope: &RopePlan, x: &mut [f32], n_heads: usize, dim: usize) {
    let n_rot = rope.n_rot;
    for (i, head) in x.chunks_mut(dim).enumerate() {
        assert!(rope.yarn.is_none() && rope.long.is_none(), "the oracle knows plain rotations");
        let position = (i / n_heads) as f64 * f64::from(rope.position_scale);
        for pair in 0..n_rot / 2 {
            let factor = rope.factors.get(pair).copied().unwrap_or(1.0);
            let turn = f64::from(rope.base).powf(-2.0 * pair as f64 / n_rot as f64);
            let (sin, cos) = (position * turn / f64::from(factor)).sin_cos();
            let (a, b) = match rope.pairs {
                RopePairs::Interleaved => (2 * pair, 2 * pair + 1),
                RopePairs::SplitHalf => (pair, pair + n_rot / 2),
            };
            let (x, y) = (f64::from(head[a]), f64::from(head[b]));
            head[a] = (x * cos - y * sin) as f32;
            head[b] = (x * sin + y * cos) as f32;
        }
    }
}

fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}
