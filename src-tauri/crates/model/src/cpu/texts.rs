//! What only encoders compute, by the CPU's kernels.

use std::ops::Range;

use kernels::activations::Form;
use kernels::kv::KvArena;
use kernels::matmul::{Epilogue, matmul};
use kernels::ops::{self, LayerNorm};
use kernels::weights::Weights;
use scheduler::{Pooling, RunError};

use super::backend::{Buffers, Cpu};
use crate::plan::encoder_weights::{EntryWeights, LayerNormWeights};
use crate::plan::model_plan::{AttentionPlan, LayerPlan, ModelPlan};
use crate::run::backend::{Backend, VectorEnding};
use crate::run::runner::resize;
use crate::run::texts::BatchSize;

impl Cpu {
    /// Have memory for a batch: exactly as much as it takes, where there was less.
    pub(super) fn make_room_for_texts(&mut self, plan: &ModelPlan, size: BatchSize) -> Result<(), RunError> {
        let BatchSize { n_tokens, chunk_tokens, n_blocks } = size;
        if self.arena.n_blocks() < n_blocks {
            let arena = KvArena::new(n_blocks, self.arena.block_bytes());
            self.arena = arena.map_err(|error| RunError::OutOfMemory(error.to_string()))?;
        }
        let widest = |of: fn(&AttentionPlan) -> usize| {
            plan.layers.iter().filter_map(LayerPlan::softmax).map(of).max().unwrap_or(0)
        };
        let n_embd = self.n_embd;
        let Buffers { q, k, v, attended, out, normed, spare_stream, .. } = &mut self.buffers;
        reserve(spare_stream, n_tokens, n_embd)?;
        reserve(q, chunk_tokens, widest(|plan| plan.n_heads * plan.k_dim))?;
        reserve(k, chunk_tokens, widest(|plan| plan.n_kv_heads * plan.k_dim))?;
        reserve(v, chunk_tokens, widest(|plan| plan.n_kv_heads * plan.v_dim))?;
        reserve(attended, chunk_tokens, widest(|plan| plan.n_heads * plan.v_dim))?;
        reserve(out, chunk_tokens, n_embd)?;
        reserve(normed, chunk_tokens, n_embd)
    }

    /// Bytes between the layers' products, but for what those take.
    #[cfg(test)]
    fn n_bytes(&self) -> usize {
        let Buffers { q, k, v, attended, gate, up, out, normed, spare_stream, .. } = &self.buffers;
        let all = [q, k, v, attended, gate, up, out, normed, spare_stream];
        let n_values: usize = all.into_iter().map(Vec::capacity).sum();
        n_values * size_of::<f32>() + self.arena.n_blocks() * self.arena.block_bytes()
    }

    /// Add what tokens have beside their embeddings `x` to them, by their positions, and norm the sum.
    pub(super) fn begin_stream(
        &mut self,
        x: &mut [f32],
        positions: &[usize],
        entry: &EntryWeights<Weights, Vec<f32>>,
    ) {
        let EntryWeights { token_type, positions: of_positions, norm } = entry;
        if let Some(token_type) = token_type {
            ops::add_to_rows(&self.threads, self.isa, x, token_type);
        }
        if let Some(vectors) = of_positions {
            let mut vector = vec![0.0; self.n_embd];
            for (&position, x) in positions.iter().zip(x.chunks_exact_mut(self.n_embd)) {
                vectors.embed(position, &mut vector);
                x.iter_mut().zip(&vector).for_each(|(x, of_position)| *x += of_position);
            }
        }
        self.norm_rows(x, norm);
    }

    pub(super) fn norm_rows(&mut self, x: &mut [f32], norm: &LayerNormWeights<Vec<f32>>) {
        let LayerNormWeights { weight, bias } = norm;
        ops::layer_norm(&self.threads, self.isa, x, LayerNorm { weight, bias, eps: self.norm_eps });
    }

    /// Pool each text's tokens and lead what comes of it through the last products.
    pub(super) fn vectors_of(
        &mut self,
        x: &[f32],
        texts: &[Range<usize>],
        ending: &VectorEnding<'_, Weights, Vec<f32>>,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        let mut vectors = Vec::new();
        resize(&mut vectors, texts.len(), self.n_embd)?;
        for (tokens, vector) in texts.iter().zip(vectors.chunks_exact_mut(self.n_embd)) {
            let tokens = match ending.pooling {
                Pooling::Mean => tokens.clone(),
                Pooling::First => tokens.start..tokens.start + 1,
                Pooling::Last => tokens.end - 1..tokens.end,
            };
            self.mean(&x[self.values(&tokens)], ending.weights.norm.as_ref(), vector);
        }
        let Cpu { threads, isa, buffers: Buffers { acts, .. }, .. } = self;
        for matrix in &ending.weights.projections {
            acts.quantize(threads, *isa, Form::of([matrix]), &vectors, matrix.n_in());
            resize(&mut vectors, texts.len(), matrix.n_out())?;
            matmul(threads, *isa, matrix, acts, &mut vectors, Epilogue::Store);
        }
        out.copy_from_slice(&vectors);
        Ok(())
    }

    /// The mean of rows of the stream, normed where there is a norm; added in their order.
    fn mean(&mut self, rows: &[f32], norm: Option<&Vec<f32>>, mean: &mut [f32]) {
        let Cpu { threads, isa, norm_eps, n_embd, buffers: Buffers { normed, .. }, .. } = self;
        for chunk in rows.chunks(Cpu::CHUNK_TOKENS * *n_embd) {
            let chunk = match norm {
                Some(weight) => {
                    normed.resize(chunk.len(), 0.0);
                    ops::rms_norm(threads, *isa, chunk, weight, *norm_eps, normed);
                    &normed[..]
                }
                None => chunk,
            };
            for row in chunk.chunks_exact(*n_embd) {
                mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
        }
        let n_rows = (rows.len() / *n_embd) as f32;
        mean.iter_mut().for_each(|sum| *sum /= n_rows);
    }
}

/// Room for rows of `width` values. What is there is lost: it goes before more is asked for.
fn reserve(values: &mut Vec<f32>, n_rows: usize, width: usize) -> Result<(), RunError> {
    let n_values = n_rows * width;
    if values.capacity() < n_values {
        *values = Vec::new();
        let memory = |_| RunError::OutOfMemory(format!("no room for {n_rows} rows of {width} values"));
        values.try_reserve_exact(n_values).map_err(memory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
