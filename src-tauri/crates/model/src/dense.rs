//! A plain dense decoder in f32: slow, whole sequences only, written from the formulas. The oracle of tests.
//!
//! It shares no arithmetic with the kernels but the dequantising of weights.

use scheduler::AttentionSpan;

use crate::gguf::Gguf;
use crate::spec::{Activation, ModelSpec, RopePairs, RopeSpec};

/// The logits of every position, `[n_tokens, n_vocab]`.
pub(crate) fn logits(gguf: &Gguf, tokens: &[u32]) -> Vec<f32> {
    let spec = ModelSpec::of(gguf).unwrap();
    let dense = Dense { gguf, spec: &spec };
    let hidden = dense.hidden(tokens);
    let head = if gguf.tensor("output.weight").is_some() { "output" } else { "token_embd" };
    let mut logits = dense.linear(head, &hidden);
    if let Some(cap) = spec.logit_softcap {
        logits.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
    }
    logits
}

struct Dense<'a> {
    gguf: &'a Gguf,
    spec: &'a ModelSpec,
}

impl Dense<'_> {
    /// The normed output of the last layer, `[n_tokens, n_embd]`.
    fn hidden(&self, tokens: &[u32]) -> Vec<f32> {
        let spec = self.spec;
        let embeddings = self.tensor("token_embd");
        let row = |token: &u32| &embeddings[*token as usize * spec.n_embd..][..spec.n_embd];
        let mut x: Vec<f32> = tokens.iter().flat_map(row).map(|x| x * spec.embedding_scale).collect();
        for layer in 0..spec.layers.len() {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let normed = self.norm(&name("attn_norm"), &x);
            let mut out = self.attention(layer, &normed);
            if spec.post_norms {
                out = self.norm(&name("post_attention_norm"), &out);
            }
            x.iter_mut().zip(&out).for_each(|(x, out)| *x += out);

            let normed = self.norm(&name("ffn_norm"), &x);
            let gate = self.linear(&name("ffn_gate"), &normed);
            let up = self.linear(&name("ffn_up"), &normed);
            let gated: Vec<f32> = gate.iter().zip(&up).map(|(gate, up)| self.activate(*gate) * up).collect();
            let mut out = self.linear(&name("ffn_down"), &gated);
            if spec.post_norms {
                out = self.norm(&name("post_ffw_norm"), &out);
            }
            x.iter_mut().zip(&out).for_each(|(x, out)| *x += out);
        }
        self.norm("output_norm", &x)
    }

    fn activate(&self, x: f32) -> f32 {
        match self.spec.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
        }
    }

    fn attention(&self, layer: usize, x: &[f32]) -> Vec<f32> {
        let spec = self.spec;
        let ModelSpec { n_heads, n_kv_heads, k_dim, v_dim, .. } = *spec;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let mut q = self.linear(&name("attn_q"), x);
        let mut k = self.linear(&name("attn_k"), x);
        let v = self.linear(&name("attn_v"), x);
        if spec.qk_norm {
            q = self.norm(&name("attn_q_norm"), &q);
            k = self.norm(&name("attn_k_norm"), &k);
        }
        let rope = &spec.ropes[spec.layers[layer].rope_idx];
        self.rotate(rope, &mut q, n_heads);
        self.rotate(rope, &mut k, n_kv_heads);

        let n = x.len() / spec.n_embd;
        let mut out = vec![0.0; n * n_heads * v_dim];
        for (i, head) in (0..n).flat_map(|i| (0..n_heads).map(move |head| (i, head))) {
            let kv_head = head / (n_heads / n_kv_heads);
            let first = match spec.layers[layer].span {
                AttentionSpan::Full => 0,
                AttentionSpan::Window { tokens } => (i + 1).saturating_sub(tokens),
            };
            let q = &q[(i * n_heads + head) * k_dim..][..k_dim];
            let score = |j: usize| {
                let k = &k[(j * n_kv_heads + kv_head) * k_dim..][..k_dim];
                let score = dot(q, k) * spec.attention_scale;
                spec.attention_softcap.map_or(score, |cap| cap * (score / cap).tanh())
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

    /// Rotates `x`, `[n_tokens, n_heads, k_dim]`.
    fn rotate(&self, rope: &RopeSpec, x: &mut [f32], n_heads: usize) {
        let n_rot = self.spec.n_rot;
        for (i, head) in x.chunks_mut(self.spec.k_dim).enumerate() {
            let position = (i / n_heads) as f64 * f64::from(rope.position_scale);
            for pair in 0..n_rot / 2 {
                let factor = rope.factors.get(pair).copied().unwrap_or(1.0);
                let turn = f64::from(rope.base).powf(-2.0 * pair as f64 / n_rot as f64);
                let (sin, cos) = (position * turn / f64::from(factor)).sin_cos();
                let (a, b) = match self.spec.rope_pairs {
                    RopePairs::Interleaved => (2 * pair, 2 * pair + 1),
                    RopePairs::SplitHalf => (pair, pair + n_rot / 2),
                };
                let (x, y) = (f64::from(head[a]), f64::from(head[b]));
                head[a] = (x * cos - y * sin) as f32;
                head[b] = (x * sin + y * cos) as f32;
            }
        }
    }

    fn linear(&self, name: &str, x: &[f32]) -> Vec<f32> {
        let weights = self.tensor(name);
        let n_in = self.gguf.tensor(&format!("{name}.weight")).unwrap().shape[0];
        x.chunks(n_in).flat_map(|x| weights.chunks(n_in).map(|row| dot(row, x))).collect()
    }

    fn norm(&self, name: &str, x: &[f32]) -> Vec<f32> {
        let weight = self.tensor(name);
        let normed = |row: &[f32]| -> Vec<f32> {
            let scale = 1.0 / (dot(row, row) / row.len() as f32 + self.spec.norm_eps).sqrt();
            row.iter().zip(&weight).map(|(x, w)| x * scale * w).collect()
        };
        x.chunks(weight.len()).flat_map(normed).collect()
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let tensor = self.gguf.tensor(&format!("{name}.weight")).unwrap();
        let mut values = vec![0.0; tensor.n_values()];
        kernels::ggml::dequantize(tensor.ty, &self.gguf.data(tensor).unwrap(), &mut values);
        values
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}
