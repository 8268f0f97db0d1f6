//! The forward pass of a [`Batch`]: one decoder for every architecture, steered by its [`ModelSpec`].
//!
//! A layer is done chunk by chunk of tokens, so that what lies between its products stays in the second-level
//! cache while the layer's weights come from the third. Chunks follow each other in token order: a token's keys
//! are in the pool before any later token asks for them, and the cut changes no bits.

use std::ops::Range;

use kernels::activations::{Activations, Form, RmsNorm, Rounding};
use kernels::isa::Isa;
use kernels::kv::KvArena;
use kernels::kv::part::ranges_of;
use kernels::matmul::{Epilogue, matmul};
use kernels::ops::{self, Rope, RopeTable};
use kernels::threads::Threads;
use kernels::weights::Weights;
use scheduler::KvLayout;

use crate::batch::Batch;
use crate::layer::{Buffers, Layer, Pass};
use crate::spec::{ModelSpec, RopePairs, RopeSpec};
use crate::weights::ModelWeights;

/// Tokens that go through a layer together.
pub(crate) const CHUNK_TOKENS: usize = 128;

/// A model ready to run.
pub(crate) struct Decoder {
    spec: ModelSpec,
    cpu: Cpu,
    embeddings: Weights,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    output: Option<Weights>,
    ropes: Vec<Rope>,
    scratch: Scratch,
}

/// Where and how the arithmetic runs.
pub(crate) struct Cpu {
    pub(crate) threads: Threads,
    pub(crate) isa: Isa,
}

/// Memory of a step, kept from one to the next.
#[derive(Default)]
struct Scratch {
    /// The residual stream of the whole step, `[n_tokens, n_embd]`.
    x: Vec<f32>,
    /// The tokens' rotations, `[n_chunks][n_ropes]`.
    ropes: Vec<RopeTable>,
    buffers: Buffers,
    /// The residual stream of the tokens whose logits are wanted.
    wanted: Vec<f32>,
    acts: Activations,
}

impl Decoder {
    pub(crate) fn new(
        spec: ModelSpec,
        weights: ModelWeights,
        layout: &KvLayout,
        cpu: Cpu,
        rounding: Rounding,
    ) -> Decoder {
        let ropes = ropes(&spec);
        let layers = weights.layers.into_iter().enumerate();
        let layers = layers.map(|(i, layer)| Layer::new(&spec, layout, i, layer)).collect();
        let ModelWeights { embeddings, output_norm, output, .. } = weights;
        let scratch = Scratch {
            buffers: Buffers::new(rounding),
            acts: Activations::new(rounding),
            ..Scratch::default()
        };
        Decoder { spec, cpu, embeddings, layers, output_norm, output, ropes, scratch }
    }

    /// Compute `batch`, whose keys and values go to `arena`, and write the logits of its wanted tokens,
    /// `[n_wanted, n_vocab]`.
    pub(crate) fn forward(&mut self, arena: &mut KvArena, batch: &Batch<'_>, logits: &mut [f32]) {
        let n_embd = self.spec.n_embd;
        self.embed(batch);
        self.fill_ropes(batch);
        let Scratch { x, ropes, buffers, .. } = &mut self.scratch;
        for layer in &self.layers {
            for (chunk_idx, chunk) in batch.chunks.iter().enumerate() {
                let rope = &ropes[chunk_idx * self.ropes.len() + layer.rope_idx];
                let pass = Pass { spec: &self.spec, cpu: &self.cpu, chunk, rope };
                let x = &mut x[chunk.tokens.start * n_embd..chunk.tokens.end * n_embd];
                layer.run(&pass, arena, buffers, x);
            }
        }
        if !batch.wanted.is_empty() {
            self.project(&batch.wanted, logits);
        }
    }

    /// The bytes of a block of these layers that hold its first `n_tokens` tokens.
    pub(crate) fn part(&self, layers: &[usize], n_tokens: usize) -> Vec<Range<usize>> {
        layers.iter().flat_map(|&layer| ranges_of(&self.layers[layer].kv, n_tokens)).collect()
    }

    fn embed(&mut self, batch: &Batch<'_>) {
        let x = &mut self.scratch.x;
        x.resize(batch.tokens.len() * self.spec.n_embd, 0.0);
        for (&token, x) in batch.tokens.iter().zip(x.chunks_exact_mut(self.spec.n_embd)) {
            self.embeddings.embed(token as usize, x);
        }
        if self.spec.embedding_scale != 1.0 {
            ops::scale(&self.cpu.threads, self.cpu.isa, x, self.spec.embedding_scale);
        }
    }

    fn fill_ropes(&mut self, batch: &Batch<'_>) {
        let tables = &mut self.scratch.ropes;
        let n_tables = batch.chunks.len() * self.ropes.len();
        if tables.len() < n_tables {
            tables.resize_with(n_tables, RopeTable::new);
        }
        for (chunk, tables) in batch.chunks.iter().zip(tables.chunks_exact_mut(self.ropes.len())) {
            for (rope, table) in self.ropes.iter().zip(tables) {
                table.fill(&self.cpu.threads, rope, &chunk.positions);
            }
        }
    }

    /// The logits of the tokens with the indices `wanted`.
    fn project(&mut self, wanted: &[usize], logits: &mut [f32]) {
        let Decoder { spec, cpu, scratch, .. } = self;
        let head = self.output.as_ref().unwrap_or(&self.embeddings);
        scratch.wanted.clear();
        for &token in wanted {
            scratch.wanted.extend_from_slice(&scratch.x[token * spec.n_embd..][..spec.n_embd]);
        }
        let norm = RmsNorm { weight: &self.output_norm, eps: spec.norm_eps };
        let Scratch { acts, wanted, .. } = scratch;
        acts.rms_norm_quantize(&cpu.threads, cpu.isa, Form::of([head]), wanted, norm);
        matmul(&cpu.threads, cpu.isa, head, acts, logits, Epilogue::Store);
        if let Some(cap) = spec.logit_softcap {
            ops::softcap(&cpu.threads, cpu.isa, logits, cap);
        }
    }
}

/// The rotations of a model's layers.
pub(crate) fn ropes(spec: &ModelSpec) -> Vec<Rope> {
    let pairs = match spec.rope_pairs {
        RopePairs::Interleaved => ops::RopePairs::Interleaved,
        RopePairs::SplitHalf => ops::RopePairs::Halves,
    };
    let rope = |rope: &RopeSpec| {
        let factors = (!rope.factors.is_empty()).then_some(rope.factors.as_slice());
        Rope::new(pairs, spec.n_rot, f64::from(rope.base), f64::from(rope.position_scale), factors)
    };
    spec.ropes.iter().map(rope).collect()
}
