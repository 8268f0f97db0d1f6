//! The operations of a model in candle's: the same steps as the CPU's, each layer's on the whole chunk.

use std::ops::Range;

use candle_core::{Device, Error, Result, Tensor};
use kernels::ops::{Rope, RopeTable};
use kernels::threads::Threads;
use scheduler::{KvLayout, RunError};

use super::attention::attend;
use super::kv_pool::KvPool;
use super::one_line::one_line;
use super::ops;
use super::part::{KvFormat, Part};
use super::proof::recorded::Provable;
use super::shaders::{Shaders, releasing};
use super::tiles::{TileLimits, Tiles};
use super::weights::Matrix;
use crate::plan::encoder_weights::{EntryWeights, LayerNormWeights};
use crate::plan::experts::ExpertsPlan;
use crate::plan::model_plan::{
    Activation, AttentionPlan, GatedPlan, LayerPlan, ModelPlan, NormOver, UngatedPlan,
};
use crate::plan::rope_plan::RopePairs;
use crate::plan::weights::{
    BranchEnd, ExpertsWeights, GatedWeights, PerLayerEmbeddings, PerLayerWeights, Projection, UngatedWeights,
};
use crate::run::backend::{Attention, Backend, Head, Latent, Piece, Recurrent, VectorEnding};
use crate::run::batch::Chunk;
use crate::run::pool::Pool;
use crate::run::rotations::rotations;
use crate::run::texts::BatchSize;

/// Rows of logits that are computed together: at the widest vocabularies 64 MiB.
const LOGIT_ROWS: usize = 64;

/// A device with its pool. Fields are dropped in their order, so what lies on the device goes before the device.
pub(super) struct GpuBackend {
    pool: KvPool,
    layers: Vec<Place>,
    /// How each layer group looks back, in the layout's order.
    windows: Vec<Option<usize>>,
    tile_limits: TileLimits,
    block_tokens: usize,
    /// With how the pairs of each lie.
    ropes: Vec<(Rope, RopePairs)>,
    rope_table: RopeTable,
    norm_eps: f32,
    branch_scale: f32,
    shaders: Shaders,
    device: Device,
}

/// Where a layer's keys and values lie.
struct Place {
    group_idx: usize,
    k: Part,
    v: Part,
}

/// What is the same for every layer, for one chunk.
pub(super) struct Prepared {
    /// One table for each of the model's rotations.
    ropes: Vec<Tensor>,
    /// For each layer group, where the chunk's keys and values go.
    slots: Vec<Tensor>,
    /// For each layer group, what the chunk's queries see.
    tiles: Vec<Tiles>,
}

impl GpuBackend {
    /// Run a model of `plan` in `pool`, whose blocks `layout` cuts.
    pub(super) fn new(
        plan: &ModelPlan,
        layout: &KvLayout,
        format: KvFormat,
        pool: KvPool,
        shaders: Shaders,
        device: Device,
    ) -> GpuBackend {
        let place = |(layer_idx, attention): (usize, &AttentionPlan)| {
            let AttentionPlan { n_kv_heads, k_dim, v_dim, .. } = *attention;
            let slot = layout.slots[layer_idx]?;
            Some(Place {
                group_idx: slot.group_idx,
                k: Part::new(format, layout, slot.k_offset, (n_kv_heads, k_dim)),
                // There is one: `able` has been asked.
                v: Part::new(format, layout, slot.v_offset.unwrap_or(slot.k_offset), (n_kv_heads, v_dim)),
            })
        };
        // Tiles are cut for all layers of a group at once, so for the widest.
        let attentions = || plan.layers.iter().filter_map(LayerPlan::softmax);
        let widest = |of: fn(&AttentionPlan) -> usize| attentions().map(of).max().unwrap_or(1);
        let slot_values = widest(|plan| plan.n_kv_heads * (plan.k_dim + plan.v_dim));
        GpuBackend {
            pool,
            layers: attentions().enumerate().filter_map(place).collect(),
            windows: layout.groups.iter().map(|group| group.span.window()).collect(),
            tile_limits: TileLimits::new(widest(|plan| plan.n_heads), slot_values),
            block_tokens: layout.block_tokens,
            ropes: rotations(plan).into_iter().zip(plan.ropes.iter().map(|rope| rope.pairs)).collect(),
            rope_table: RopeTable::new(),
            norm_eps: plan.norm_eps,
            branch_scale: plan.branch_scale,
            shaders,
            device,
        }
    }

    /// As on a device with these programs.
    #[cfg(test)]
    pub(super) fn with_shaders(&mut self, shaders: Shaders) {
        self.pool.with_shaders(shaders);
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, weight, self.norm_eps)
    }

    fn norm_if_there(&self, x: &Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
        weight.map_or_else(|| Ok(x.clone()), |weight| self.norm(x, weight))
    }

    fn prepared(&mut self, chunk: &Chunk<'_>) -> Result<Prepared> {
        let here = Threads::new(1);
        let mut prepared = Prepared { ropes: Vec::new(), slots: Vec::new(), tiles: Vec::new() };
        for (rope, _) in &self.ropes {
            self.rope_table.fill(&here, rope, &chunk.positions);
            let shape = (chunk.positions.len(), 2, rope.n_rot() / 2);
            prepared.ropes.push(Tensor::from_slice(self.rope_table.values(), shape, &self.device)?);
        }
        for (rows, window) in chunk.rows.iter().zip(&self.windows) {
            prepared.slots.push(self.pool.slots_of(rows)?);
            let tiles = Tiles::new(rows, *window, self.block_tokens, self.tile_limits, &self.device)?;
            prepared.tiles.push(tiles);
        }
        Ok(prepared)
    }

    fn attended(
        &self,
        x: &Tensor,
        piece: &Piece<'_, Prepared>,
        layer: &Attention<'_, Matrix, Tensor>,
    ) -> Result<Tensor> {
        let Attention { layer_idx, plan, weights } = *layer;
        let AttentionPlan { n_heads, n_kv_heads, k_dim, .. } = *plan;
        let prepared = piece.prepared;
        let (n, normed) = (x.dim(0)?, self.norm_if_there(x, weights.norm.as_ref())?);
        let head = |product: Tensor, norm: Option<&Tensor>, n_heads: usize| {
            let normed = match plan.norm_over {
                NormOver::Tokens => self.norm_if_there(&product, norm)?,
                NormOver::Heads => self.norm_if_there(&product.reshape((n * n_heads, k_dim))?, norm)?,
            };
            let heads = normed.reshape((n, n_heads, k_dim))?;
            let Some(idx) = plan.rope_idx else { return Ok(heads) };
            ops::rotate(&self.shaders, self.ropes[idx].1, &heads, &prepared.ropes[idx])
        };
        let mut q = head(project(&weights.q, &normed)?, weights.q_norm.as_ref(), n_heads)?;
        let (Some(k), Some(v)) = (&weights.k, &weights.v) else { return Err(lacking()) };
        let k = head(project(k, &normed)?, weights.k_norm.as_ref(), n_kv_heads)?;
        if let Some(temperature) = plan.temperature {
            let factors: Vec<f32> = piece.chunk.positions.iter().map(|&at| temperature.at(at)).collect();
            q = q.broadcast_mul(&Tensor::from_vec(factors, (n, 1, 1), &self.device)?)?;
        }
        let v = project(v, &normed)?;
        let place = &self.layers[layer_idx];
        let (slots, tiles) = (&prepared.slots[place.group_idx], &prepared.tiles[place.group_idx]);
        self.pool.store(&place.k, &k, slots)?;
        self.pool.store(&place.v, &v, slots)?;
        attend(&self.pool, &place.k, &place.v, plan, tiles, &q)
    }

    fn gate(&self, x: &Tensor, plan: &GatedPlan, weights: &GatedWeights<Matrix, Tensor>) -> Result<Tensor> {
        let normed = self.norm_if_there(x, weights.norm.as_ref())?;
        let gate = project(&weights.gate, &normed)?;
        let gate = match plan.activation {
            Activation::Silu => gate.silu()?,
            // candle's `gelu` is the tanh form.
            Activation::GeluTanh => gate.gelu()?,
        };
        gate * project(&weights.up, &normed)?
    }

    /// `x` and the end of a branch.
    fn joined(&self, x: &Tensor, branch: &Tensor, end: &BranchEnd<Matrix, Tensor>) -> Result<Tensor> {
        let mut out = end.matrix.linear(branch)?;
        if let Some(bias) = &end.bias {
            out = out.broadcast_add(bias)?;
        }
        out = self.norm_if_there(&out, end.post_norm.as_ref())?;
        if self.branch_scale != 1.0 {
            out = out.affine(self.branch_scale.into(), 0.0)?;
        }
        x + out
    }

    /// The stream's tokens with the indices `ids`.
    fn select(&self, x: &Tensor, ids: &[u32]) -> Result<Tensor> {
        x.index_select(&Tensor::from_slice(ids, ids.len(), &self.device)?, 0)
    }

    /// Write the logits of the stream's tokens with the indices `ids` to `out`.
    fn project_head(
        &self,
        x: &Tensor,
        ids: &[u32],
        head: &Head<'_, Matrix, Tensor>,
        out: &mut [f32],
    ) -> Result<()> {
        let mut logits = head.matrix.linear(&self.norm(&self.select(x, ids)?, head.norm)?)?;
        if head.scale != 1.0 {
            logits = logits.affine(head.scale.into(), 0.0)?;
        }
        if let Some(cap) = head.softcap {
            logits = ops::softcap(&logits, cap)?;
        }
        out.copy_from_slice(&logits.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}

/// `x` times a projection.
fn project(projection: &Projection<Matrix, Tensor>, x: &Tensor) -> Result<Tensor> {
    let out = projection.matrix.linear(x)?;
    projection.bias.as_ref().map_or(Ok(out.clone()), |bias| out.broadcast_add(bias))
}

/// What `able` refuses has come this far.
fn lacking() -> Error {
    Error::Msg("an operation that only the CPU has".to_owned())
}

fn failed(error: Error) -> RunError {
    RunError::Device(one_line(&error))
}

impl Pool for GpuBackend {
    fn n_blocks(&self) -> usize {
        self.pool.n_blocks()
    }

    fn copy_block(&mut self, from: usize, to: usize) -> std::result::Result<(), RunError> {
        self.pool.copy_block(from, to).map_err(failed)
    }

    fn read(
        &mut self,
        block: usize,
        ranges: &[Range<usize>],
        mut out: &mut [u8],
    ) -> std::result::Result<(), RunError> {
        for range in ranges {
            let (part, rest) = out.split_at_mut(range.len());
            self.pool.read(block, range.start, part).map_err(failed)?;
            out = rest;
        }
        Ok(())
    }

    fn write(
        &mut self,
        block: usize,
        ranges: &[Range<usize>],
        mut bytes: &[u8],
    ) -> std::result::Result<(), RunError> {
        for range in ranges {
            let (part, rest) = bytes.split_at(range.len());
            self.pool.write(block, range.start, part).map_err(failed)?;
            bytes = rest;
        }
        Ok(())
    }
}

impl Provable for GpuBackend {
    fn values(&mut self, x: &Tensor) -> std::result::Result<Vec<f32>, RunError> {
        x.flatten_all().and_then(|x| x.to_vec1()).map_err(failed)
    }
}

impl Backend for GpuBackend {
    type Matrix = Matrix;
    type Vector = Tensor;
    type Stream = Tensor;
    type Prepared = Prepared;
    type Branch = Tensor;

    const CHUNK_TOKENS: usize = 512;

    /// The device's memory is bounded by a chunk and not by the step.
    const CHUNKS_PER_PASS: usize = 1;

    /// Do `work` and wait until the device has done it. What the system's libraries leave to be released later is
    /// released here: a step's memory does not grow into the next.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut GpuBackend) -> std::result::Result<T, RunError>,
    ) -> std::result::Result<T, RunError> {
        releasing(|| {
            let done = work(self);
            // Also after an error, so that nothing of the failed step is still running.
            let idle = self.device.synchronize().map_err(failed);
            done.and_then(|value| idle.map(|()| value))
        })
    }

    fn embed(
        &mut self,
        pieces: &[&[u32]],
        embeddings: &Matrix,
        scale: f32,
    ) -> std::result::Result<Tensor, RunError> {
        let embed = || {
            let tokens = pieces.concat();
            let n_tokens = tokens.len();
            let x = embeddings.rows(&Tensor::from_vec(tokens, n_tokens, &self.device)?)?;
            if scale == 1.0 { Ok(x) } else { x.affine(scale.into(), 0.0) }
        };
        embed().map_err(failed)
    }

    fn prepare(&mut self, chunk: &Chunk<'_>) -> std::result::Result<Prepared, RunError> {
        self.prepared(chunk).map_err(failed)
    }

    fn attention(
        &mut self,
        x: &Tensor,
        piece: &Piece<'_, Prepared>,
        layer: &Attention<'_, Matrix, Tensor>,
    ) -> std::result::Result<Tensor, RunError> {
        self.attended(x, piece, layer).map_err(failed)
    }

    fn latent(
        &mut self,
        _: &Tensor,
        _: &Piece<'_, Prepared>,
        _: &Latent<'_, Matrix, Tensor>,
    ) -> std::result::Result<Tensor, RunError> {
        Err(failed(lacking()))
    }

    fn recurrent(
        &mut self,
        _: &Tensor,
        _: &Piece<'_, Prepared>,
        _: &Recurrent<'_, Matrix, Tensor>,
    ) -> std::result::Result<Tensor, RunError> {
        Err(failed(lacking()))
    }

    fn per_layer_inputs(
        &mut self,
        _: &Tensor,
        _: &[&[u32]],
        _: &PerLayerEmbeddings<Matrix, Tensor>,
    ) -> std::result::Result<Tensor, RunError> {
        Err(failed(lacking()))
    }

    fn per_layer(
        &mut self,
        _: &Tensor,
        _: &Piece<'_, Prepared>,
        _: (&Tensor, usize),
        _: &PerLayerWeights<Matrix, Tensor>,
    ) -> std::result::Result<Tensor, RunError> {
        Err(failed(lacking()))
    }

    fn scale(
        &mut self,
        x: &mut Tensor,
        _: &Piece<'_, Prepared>,
        factor: f32,
    ) -> std::result::Result<(), RunError> {
        *x = x.affine(factor.into(), 0.0).map_err(failed)?;
        Ok(())
    }

    fn gated(
        &mut self,
        x: &Tensor,
        _: &Piece<'_, Prepared>,
        plan: &GatedPlan,
        weights: &GatedWeights<Matrix, Tensor>,
    ) -> std::result::Result<Tensor, RunError> {
        self.gate(x, plan, weights).map_err(failed)
    }

    fn ungated(
        &mut self,
        _: &Tensor,
        _: &Piece<'_, Prepared>,
        _: &UngatedPlan,
        _: &UngatedWeights<Matrix, Tensor>,
    ) -> std::result::Result<Tensor, RunError> {
        Err(failed(lacking()))
    }

    fn norm_stream(
        &mut self,
        _: &mut Tensor,
        _: &Piece<'_, Prepared>,
        _: &LayerNormWeights<Tensor>,
    ) -> std::result::Result<(), RunError> {
        Err(failed(lacking()))
    }

    fn make_room(&mut self, _: &ModelPlan, _: BatchSize) -> std::result::Result<(), RunError> {
        Err(failed(lacking()))
    }

    fn enter_texts(
        &mut self,
        _: &mut Tensor,
        _: &Piece<'_, Prepared>,
        _: &EntryWeights<Matrix, Tensor>,
    ) -> std::result::Result<(), RunError> {
        Err(failed(lacking()))
    }

    fn vectors(
        &mut self,
        _: &Tensor,
        _: &[Range<usize>],
        _: &VectorEnding<'_, Matrix, Tensor>,
        _: &mut [f32],
    ) -> std::result::Result<(), RunError> {
        Err(failed(lacking()))
    }

    fn experts(
        &mut self,
        _: &mut Tensor,
        _: &ExpertsPlan,
        _: &ExpertsWeights<Matrix, Tensor>,
    ) -> std::result::Result<(), RunError> {
        // Such a plan is refused before anything is loaded.
        Err(RunError::Device("no mixtures of experts on a GPU here".to_owned()))
    }

    fn join(
        &mut self,
        x: &mut Tensor,
        _: &Piece<'_, Prepared>,
        branch: Tensor,
        end: &BranchEnd<Matrix, Tensor>,
    ) -> std::result::Result<(), RunError> {
        *x = self.joined(x, &branch, end).map_err(failed)?;
        Ok(())
    }

    fn logits(
        &mut self,
        x: &Tensor,
        wanted: &[usize],
        head: &Head<'_, Matrix, Tensor>,
        mut out: &mut [f32],
    ) -> std::result::Result<(), RunError> {
        let n_vocab = out.len() / wanted.len();
        for wanted in wanted.chunks(LOGIT_ROWS) {
            let ids: Vec<u32> = wanted.iter().map(|&token| token as u32).collect();
            let (rows, rest) = out.split_at_mut(ids.len() * n_vocab);
            self.project_head(x, &ids, head, rows).map_err(failed)?;
            out = rest;
        }
        Ok(())
    }

    fn hidden(
        &mut self,
        x: &Tensor,
        wanted: &[usize],
        norm: &Tensor,
        out: &mut [f32],
    ) -> std::result::Result<(), RunError> {
        let ids: Vec<u32> = wanted.iter().map(|&token| token as u32).collect();
        let normed = self.select(x, &ids).and_then(|x| self.norm(&x, norm)).map_err(failed)?;
        out.copy_from_slice(&normed.flatten_all().and_then(|x| x.to_vec1::<f32>()).map_err(failed)?);
        Ok(())
    }

    fn end_pass(&mut self, x: Tensor, _: Vec<Prepared>) -> std::result::Result<(), RunError> {
        drop(x);
        self.device.synchronize().map_err(failed)
    }
}
