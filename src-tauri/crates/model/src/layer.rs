//! One layer of the decoder on one chunk of tokens.

use kernels::activations::{Activations, Form, GateUp, RmsNorm, Rounding};
use kernels::attention::{AttentionParams, attention};
use kernels::kv::{KeyInput, KvArena, KvFormat, KvLayer, store_kv};
use kernels::matmul::{Epilogue, Product, matmul, matmul_each};
use kernels::ops::{self, HeadNorm, HeadPrep, RopeTable, prepare_heads};
use kernels::weights::Weights;
use scheduler::{KvDtype, KvLayout};

use crate::batch::Chunk;
use crate::decoder::Cpu;
use crate::spec::{Activation, ModelSpec};
use crate::weights::LayerWeights;

/// A layer: its weights and what else of it does not change from step to step.
pub(crate) struct Layer {
    weights: LayerWeights,
    pub(crate) kv: KvLayer,
    group_idx: usize,
    pub(crate) rope_idx: usize,
    attention: AttentionParams,
    forms: Forms,
}

/// The forms in which the products take their rows.
struct Forms {
    qkv: Form,
    attn_output: Form,
    gate_up: Form,
    down: Form,
}

/// What lies between a layer's products, for one chunk of tokens; kept from chunk to chunk.
#[derive(Default)]
pub(crate) struct Buffers {
    acts: Activations,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// The output of attention or feed-forward, before and after its post-norm.
    out: Vec<f32>,
    normed: Vec<f32>,
}

impl Buffers {
    pub(crate) fn new(rounding: Rounding) -> Buffers {
        Buffers { acts: Activations::new(rounding), ..Buffers::default() }
    }
}

/// What a layer needs besides itself and its buffers.
pub(crate) struct Pass<'a> {
    pub(crate) spec: &'a ModelSpec,
    pub(crate) cpu: &'a Cpu,
    pub(crate) chunk: &'a Chunk<'a>,
    /// The rotations of the chunk's tokens.
    pub(crate) rope: &'a RopeTable,
}

impl Layer {
    pub(crate) fn new(spec: &ModelSpec, layout: &KvLayout, layer_idx: usize, weights: LayerWeights) -> Layer {
        let slot = layout.slots[layer_idx];
        let layer = spec.layers[layer_idx];
        Layer {
            kv: KvLayer {
                n_kv_heads: spec.n_kv_heads,
                k_dim: spec.k_dim,
                v_dim: spec.v_dim,
                block_tokens: layout.block_tokens,
                block_bytes: layout.block_bytes,
                k_offset: slot.k_offset,
                v_offset: slot.v_offset,
                dtype: match layout.kv_dtype {
                    KvDtype::F16 => KvFormat::F16,
                    KvDtype::Q8 => KvFormat::Q8,
                    KvDtype::Q4 => KvFormat::Q4,
                },
            },
            group_idx: slot.group_idx,
            rope_idx: layer.rope_idx,
            attention: AttentionParams {
                n_heads: spec.n_heads,
                scale: spec.attention_scale,
                window: layer.span.window(),
                softcap: spec.attention_softcap,
            },
            forms: Forms {
                qkv: Form::of([&weights.q, &weights.k, &weights.v]),
                attn_output: Form::of([&weights.attn_output]),
                gate_up: Form::of([&weights.gate, &weights.up]),
                down: Form::of([&weights.down]),
            },
            weights,
        }
    }

    /// Take the chunk's residual stream `x`, `[n_tokens, n_embd]`, through the layer.
    pub(crate) fn run(&self, pass: &Pass<'_>, arena: &mut KvArena, buffers: &mut Buffers, x: &mut [f32]) {
        self.attend(pass, arena, buffers, x);
        self.feed_forward(pass, buffers, x);
    }

    fn attend(&self, pass: &Pass<'_>, arena: &mut KvArena, buffers: &mut Buffers, x: &mut [f32]) {
        let Pass { spec, cpu, chunk, .. } = *pass;
        let (threads, isa, n) = (&cpu.threads, cpu.isa, chunk.tokens.len());
        let LayerWeights { q, k, v, .. } = &self.weights;
        let Buffers { acts, .. } = buffers;

        acts.rms_norm_quantize(threads, isa, self.forms.qkv, x, pass.norm(&self.weights.attn_norm));
        buffers.q.resize(n * q.n_out(), 0.0);
        buffers.k.resize(n * k.n_out(), 0.0);
        buffers.v.resize(n * v.n_out(), 0.0);
        let store = |weights, out| Product { weights, out, epilogue: Epilogue::Store };
        let products = &mut [store(q, &mut buffers.q), store(k, &mut buffers.k), store(v, &mut buffers.v)];
        matmul_each(threads, isa, acts, products);

        let q_prep = pass.head_prep(self.weights.q_norm.as_deref());
        prepare_heads(threads, isa, &q_prep, spec.n_heads, spec.k_dim, &mut buffers.q);
        let rows = &chunk.rows[self.group_idx];
        let keys = KeyInput { k: &buffers.k, prep: pass.head_prep(self.weights.k_norm.as_deref()) };
        store_kv(threads, isa, arena, &self.kv, rows, keys, &buffers.v);

        let n_attended = spec.n_heads * spec.v_dim;
        buffers.attended.resize(n * n_attended, 0.0);
        attention(threads, isa, arena, &self.kv, &self.attention, rows, &buffers.q, &mut buffers.attended);
        buffers.acts.quantize(threads, isa, self.forms.attn_output, &buffers.attended, n_attended);
        let post_norm = self.weights.post_attn_norm.as_deref();
        join(pass, &self.weights.attn_output, post_norm, buffers, x);
    }

    fn feed_forward(&self, pass: &Pass<'_>, buffers: &mut Buffers, x: &mut [f32]) {
        let Pass { spec, cpu, chunk, .. } = *pass;
        let (threads, isa) = (&cpu.threads, cpu.isa);
        let LayerWeights { gate, up, down, .. } = &self.weights;
        let n_values = chunk.tokens.len() * spec.n_ff;

        let Buffers { acts, .. } = buffers;
        acts.rms_norm_quantize(threads, isa, self.forms.gate_up, x, pass.norm(&self.weights.ffn_norm));
        buffers.gate.resize(n_values, 0.0);
        buffers.up.resize(n_values, 0.0);
        let store = |weights, out| Product { weights, out, epilogue: Epilogue::Store };
        matmul_each(threads, isa, acts, &mut [store(gate, &mut buffers.gate), store(up, &mut buffers.up)]);

        let gate_up = GateUp { gate: &buffers.gate, up: &buffers.up };
        let form = self.forms.down;
        match spec.activation {
            Activation::Silu => acts.silu_mul_quantize(threads, isa, form, gate_up, spec.n_ff),
            Activation::GeluTanh => acts.gelu_tanh_mul_quantize(threads, isa, form, gate_up, spec.n_ff),
        };
        join(pass, down, self.weights.post_ffn_norm.as_deref(), buffers, x);
    }
}

impl<'p> Pass<'p> {
    /// What is done to each query's or key's head.
    fn head_prep<'a>(&self, norm: Option<&'a [f32]>) -> HeadPrep<'a>
    where
        'p: 'a,
    {
        let norm = norm.map(|weight| HeadNorm { weight, eps: self.spec.norm_eps });
        HeadPrep { norm, rope: Some(self.rope) }
    }

    fn norm<'a>(&self, weight: &'a [f32]) -> RmsNorm<'a> {
        RmsNorm { weight, eps: self.spec.norm_eps }
    }
}

/// Add the product of the buffered activations with `weights`, normed if need be, to the residual stream `x`.
fn join(pass: &Pass<'_>, weights: &Weights, post_norm: Option<&[f32]>, buffers: &mut Buffers, x: &mut [f32]) {
    let (threads, isa) = (&pass.cpu.threads, pass.cpu.isa);
    let Buffers { acts, out, normed, .. } = buffers;
    match post_norm {
        None => matmul(threads, isa, weights, acts, x, Epilogue::Add),
        Some(weight) => {
            out.resize(x.len(), 0.0);
            normed.resize(x.len(), 0.0);
            matmul(threads, isa, weights, acts, out, Epilogue::Store);
            ops::rms_norm(threads, isa, out, weight, pass.spec.norm_eps, normed);
            ops::add(threads, isa, x, normed);
        }
    }
}
