//! The forward pass of a [`Batch`] in candle's operations; the same steps as the CPU's decoder, layer by layer.

use candle_core::{Device, Result, Tensor};
use kernels::ops::{Rope, RopeTable};
use kernels::threads::Threads;
use scheduler::KvLayout;

use super::attention::{AttentionSpec, attend};
use super::kv::{KvFormat, KvPool, Part};
use super::ops;
use super::shaders::Shaders;
use super::tiles::{TileLimits, Tiles};
use super::weights::Matrix;
use crate::batch::{Batch, Chunk};
use crate::decoder::ropes;
use crate::spec::{Activation, ModelSpec};
use crate::weights::{LayerWeights, ModelWeights};

/// Rows of logits that are computed together: at the widest vocabularies 64 MiB.
const LOGIT_ROWS: usize = 64;

/// A model ready to run on its device.
pub(super) struct Decoder {
    spec: ModelSpec,
    weights: ModelWeights<Matrix, Tensor>,
    layers: Vec<Layer>,
    /// How each layer group looks back, in the layout's order.
    windows: Vec<Option<usize>>,
    block_tokens: usize,
    ropes: Vec<Rope>,
    rope_table: RopeTable,
    shaders: Shaders,
    device: Device,
}

/// Where a layer's keys and values lie and how its queries meet them.
struct Layer {
    group_idx: usize,
    rope_idx: usize,
    k: Part,
    v: Part,
    attention: AttentionSpec,
}

/// What does not change from layer to layer, for one chunk.
struct Pass<'a> {
    pool: &'a KvPool,
    /// One table for each of the model's rotations.
    ropes: Vec<Tensor>,
    /// For each layer group, where the chunk's keys and values go.
    slots: Vec<Tensor>,
    /// For each layer group, what the chunk's queries see.
    tiles: Vec<Tiles>,
}

impl Decoder {
    pub(super) fn new(
        spec: ModelSpec,
        weights: ModelWeights<Matrix, Tensor>,
        layout: &KvLayout,
        format: KvFormat,
        shaders: Shaders,
        device: Device,
    ) -> Decoder {
        let layer = |layer_idx: usize| {
            let slot = layout.slots[layer_idx];
            Layer {
                group_idx: slot.group_idx,
                rope_idx: spec.layers[layer_idx].rope_idx,
                k: Part::new(format, layout, slot.k_offset, (spec.n_kv_heads, spec.k_dim)),
                v: Part::new(format, layout, slot.v_offset, (spec.n_kv_heads, spec.v_dim)),
                attention: AttentionSpec {
                    n_heads: spec.n_heads,
                    scale: spec.attention_scale,
                    softcap: spec.attention_softcap,
                },
            }
        };
        Decoder {
            layers: (0..spec.layers.len()).map(layer).collect(),
            windows: layout.groups.iter().map(|group| group.span.window()).collect(),
            block_tokens: layout.block_tokens,
            ropes: ropes(&spec),
            rope_table: RopeTable::new(),
            spec,
            weights,
            shaders,
            device,
        }
    }

    /// Compute `batch`, whose keys and values go to `pool`, and write the logits of its wanted tokens,
    /// `[n_wanted, n_vocab]`.
    pub(super) fn forward(&mut self, pool: &KvPool, batch: &Batch<'_>, logits: &mut [f32]) -> Result<()> {
        let mut n_done = 0;
        for chunk in &batch.chunks {
            let pass = self.pass(pool, chunk)?;
            let mut x = self.embed(&batch.tokens[chunk.tokens.clone()])?;
            for (layer, weights) in self.layers.iter().zip(&self.weights.layers) {
                x = self.attend(&pass, layer, weights, x)?;
                x = self.feed_forward(weights, x)?;
            }
            let wanted = batch.wanted[n_done..].iter().take_while(|&&token| token < chunk.tokens.end);
            let wanted: Vec<u32> = wanted.map(|token| (token - chunk.tokens.start) as u32).collect();
            for ids in wanted.chunks(LOGIT_ROWS) {
                self.project(&x, ids, &mut logits[n_done * self.spec.n_vocab..])?;
                n_done += ids.len();
            }
            // Chunk by chunk, so that the device's memory is bounded by a chunk and not by the step.
            self.device.synchronize()?;
        }
        Ok(())
    }

    fn pass<'a>(&mut self, pool: &'a KvPool, chunk: &Chunk<'_>) -> Result<Pass<'a>> {
        let (spec, device) = (&self.spec, &self.device);
        let limits = TileLimits::new(spec.n_heads, spec.n_kv_heads, spec.k_dim + spec.v_dim);
        let here = Threads::new(1);
        let mut ropes = Vec::with_capacity(self.ropes.len());
        for rope in &self.ropes {
            self.rope_table.fill(&here, rope, &chunk.positions);
            let shape = (chunk.positions.len(), 2, rope.n_rot() / 2);
            ropes.push(Tensor::from_slice(self.rope_table.values(), shape, device)?);
        }
        let mut pass = Pass { pool, ropes, slots: Vec::new(), tiles: Vec::new() };
        for (rows, window) in chunk.rows.iter().zip(&self.windows) {
            pass.slots.push(pool.slots_of(rows)?);
            pass.tiles.push(Tiles::new(rows, *window, self.block_tokens, limits, device)?);
        }
        Ok(pass)
    }

    fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        let x = self.weights.embeddings.rows(&Tensor::from_slice(tokens, tokens.len(), &self.device)?)?;
        if self.spec.embedding_scale == 1.0 { Ok(x) } else { x.affine(self.spec.embedding_scale.into(), 0.0) }
    }

    fn attend(
        &self,
        pass: &Pass<'_>,
        layer: &Layer,
        weights: &LayerWeights<Matrix, Tensor>,
        x: Tensor,
    ) -> Result<Tensor> {
        let spec = &self.spec;
        let (n, normed) = (x.dim(0)?, self.norm(&x, &weights.attn_norm)?);
        let head = |product: Tensor, norm: Option<&Tensor>, n_heads: usize, dim: usize| {
            let heads = product.reshape((n * n_heads, dim))?;
            let heads = norm.map_or(Ok(heads.clone()), |norm| self.norm(&heads, norm))?;
            let heads = heads.reshape((n, n_heads, dim))?;
            ops::rotate(&self.shaders, spec.rope_pairs, &heads, &pass.ropes[layer.rope_idx])
        };
        let q = head(weights.q.linear(&normed)?, weights.q_norm.as_ref(), spec.n_heads, spec.k_dim)?;
        let k = head(weights.k.linear(&normed)?, weights.k_norm.as_ref(), spec.n_kv_heads, spec.k_dim)?;
        let v = weights.v.linear(&normed)?;
        let slots = &pass.slots[layer.group_idx];
        pass.pool.store(&layer.k, &k, slots)?;
        pass.pool.store(&layer.v, &v, slots)?;
        let out = attend(pass.pool, &layer.k, &layer.v, &layer.attention, &pass.tiles[layer.group_idx], &q)?;
        self.join(x, &weights.attn_output, weights.post_attn_norm.as_ref(), &out)
    }

    fn feed_forward(&self, weights: &LayerWeights<Matrix, Tensor>, x: Tensor) -> Result<Tensor> {
        let normed = self.norm(&x, &weights.ffn_norm)?;
        let gate = weights.gate.linear(&normed)?;
        let gate = match self.spec.activation {
            Activation::Silu => gate.silu()?,
            // candle's `gelu` is the tanh form.
            Activation::GeluTanh => gate.gelu()?,
        };
        let gated = (gate * weights.up.linear(&normed)?)?;
        self.join(x, &weights.down, weights.post_ffn_norm.as_ref(), &gated)
    }

    /// `x` and the product of `values` with `weights`, normed if need be.
    fn join(
        &self,
        x: Tensor,
        weights: &Matrix,
        post_norm: Option<&Tensor>,
        values: &Tensor,
    ) -> Result<Tensor> {
        let out = weights.linear(values)?;
        match post_norm {
            None => x + out,
            Some(norm) => x + self.norm(&out, norm)?,
        }
    }

    /// Write the logits of the chunk's tokens with the indices `ids` to the start of `logits`.
    fn project(&self, x: &Tensor, ids: &[u32], logits: &mut [f32]) -> Result<()> {
        let x = x.index_select(&Tensor::from_slice(ids, ids.len(), &self.device)?, 0)?;
        let head = self.weights.output.as_ref().unwrap_or(&self.weights.embeddings);
        let mut out = head.linear(&self.norm(&x, &self.weights.output_norm)?)?;
        if let Some(cap) = self.spec.logit_softcap {
            out = ops::softcap(&out, cap)?;
        }
        let values = out.flatten_all()?.to_vec1::<f32>()?;
        logits[..values.len()].copy_from_slice(&values);
        Ok(())
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, weight, self.spec.norm_eps)
    }
}
