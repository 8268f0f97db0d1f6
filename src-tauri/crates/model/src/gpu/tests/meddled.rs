//! A device with a wrong operation.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use scheduler::RunError;

use crate::gpu::backend::{GpuBackend, Prepared};
use crate::gpu::load::SetUp;
use crate::gpu::proof::recorded::Provable;
use crate::gpu::weights::Matrix;
use crate::plan::encoder_weights::{EntryWeights, LayerNormWeights};
use crate::plan::experts::ExpertsPlan;
use crate::plan::model_plan::{GatedPlan, ModelPlan, UngatedPlan};
use crate::plan::weights::{
    BranchEnd, ExpertsWeights, GatedWeights, PerLayerEmbeddings, PerLayerWeights, UngatedWeights,
};
use crate::run::backend::{Attention, Backend, Head, Latent, Piece, Recurrent, VectorEnding};
use crate::run::batch::Chunk;
use crate::run::pool::Pool;
use crate::run::runner::Runner;
use crate::run::texts::BatchSize;

type Done<T> = Result<T, RunError>;

/// Does something to what an operation of a layer has computed.
pub(super) type Meddle = Box<dyn FnMut(Operation, usize, Tensor) -> Done<Tensor> + Send>;

/// What the result of may be meddled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Of no layer.
    Embed,
    Attention,
    Gated,
    Join,
    /// Of no layer.
    Logits,
}

/// A sound device, but for what `meddle` does.
pub(super) struct Meddled {
    sound: GpuBackend,
    meddle: Meddle,
    /// The last one whose attention was computed.
    layer_idx: usize,
    /// Whether blocks' bytes are written, and copied, at all.
    pub(super) writes: bool,
    pub(super) copies: bool,
    /// As long as there is another owner, the device has not been let go.
    _alive: Arc<()>,
}

impl Meddled {
    /// A model that has been set up, with what `meddle` does to it.
    pub(super) fn runner(set_up: SetUp, alive: &Arc<()>, meddle: Meddle) -> Runner<Meddled> {
        let SetUp { plan, weights, layout, backend: sound } = set_up;
        let alive = Arc::clone(alive);
        let meddled = Meddled { sound, meddle, layer_idx: 0, writes: true, copies: true, _alive: alive };
        Runner::new(plan, weights, layout, meddled)
    }

    fn meddle(&mut self, operation: Operation, of: Tensor) -> Done<Tensor> {
        (self.meddle)(operation, self.layer_idx, of)
    }
}

impl Provable for Meddled {
    fn values(&mut self, x: &Tensor) -> Done<Vec<f32>> {
        self.sound.values(x)
    }
}

impl Pool for Meddled {
    fn n_blocks(&self) -> usize {
        self.sound.n_blocks()
    }

    fn copy_block(&mut self, from: usize, to: usize) -> Done<()> {
        if self.copies { self.sound.copy_block(from, to) } else { Ok(()) }
    }

    fn read(&mut self, block: usize, ranges: &[Range<usize>], out: &mut [u8]) -> Done<()> {
        self.sound.read(block, ranges, out)
    }

    fn write(&mut self, block: usize, ranges: &[Range<usize>], bytes: &[u8]) -> Done<()> {
        if self.writes { self.sound.write(block, ranges, bytes) } else { Ok(()) }
    }
}

impl Backend for Meddled {
    type Matrix = Matrix;
    type Vector = Tensor;
    type Stream = Tensor;
    type Prepared = Prepared;
    type Branch = Tensor;

    const CHUNK_TOKENS: usize = GpuBackend::CHUNK_TOKENS;
    const CHUNKS_PER_PASS: usize = GpuBackend::CHUNKS_PER_PASS;

    fn embed(&mut self, pieces: &[&[u32]], embeddings: &Matrix, scale: f32) -> Done<Tensor> {
        let x = self.sound.embed(pieces, embeddings, scale)?;
        self.meddle(Operation::Embed, x)
    }

    fn prepare(&mut self, chunk: &Chunk<'_>) -> Done<Prepared> {
        self.sound.prepare(chunk)
    }

    fn attention(
        &mut self,
        x: &Tensor,
        piece: &Piece<'_, Prepared>,
        layer: &Attention<'_, Matrix, Tensor>,
    ) -> Done<Tensor> {
        self.layer_idx = layer.layer_idx;
        let branch = self.sound.attention(x, piece, layer)?;
        self.meddle(Operation::Attention, branch)
    }

    fn latent(
        &mut self,
        x: &Tensor,
        piece: &Piece<'_, Prepared>,
        layer: &Latent<'_, Matrix, Tensor>,
    ) -> Done<Tensor> {
        self.sound.latent(x, piece, layer)
    }

    fn recurrent(
        &mut self,
        x: &Tensor,
        piece: &Piece<'_, Prepared>,
        layer: &Recurrent<'_, Matrix, Tensor>,
    ) -> Done<Tensor> {
        self.sound.recurrent(x, piece, layer)
    }

    fn per_layer_inputs(
        &mut self,
        x: &Tensor,
        pieces: &[&[u32]],
        weights: &PerLayerEmbeddings<Matrix, Tensor>,
    ) -> Done<Tensor> {
        self.sound.per_layer_inputs(x, pieces, weights)
    }

    fn per_layer(
        &mut self,
        x: &Tensor,
        piece: &Piece<'_, Prepared>,
        inputs: (&Tensor, usize),
        weights: &PerLayerWeights<Matrix, Tensor>,
    ) -> Done<Tensor> {
        self.sound.per_layer(x, piece, inputs, weights)
    }

    fn scale(&mut self, x: &mut Tensor, piece: &Piece<'_, Prepared>, factor: f32) -> Done<()> {
        self.sound.scale(x, piece, factor)
    }

    fn gated(
        &mut self,
        x: &Tensor,
        piece: &Piece<'_, Prepared>,
        plan: &GatedPlan,
        weights: &GatedWeights<Matrix, Tensor>,
    ) -> Done<Tensor> {
        let branch = self.sound.gated(x, piece, plan, weights)?;
        self.meddle(Operation::Gated, branch)
    }

    fn ungated(
        &mut self,
        x: &Tensor,
        piece: &Piece<'_, Prepared>,
        plan: &UngatedPlan,
        weights: &UngatedWeights<Matrix, Tensor>,
    ) -> Done<Tensor> {
        self.sound.ungated(x, piece, plan, weights)
    }

    fn norm_stream(
        &mut self,
        x: &mut Tensor,
        piece: &Piece<'_, Prepared>,
        norm: &LayerNormWeights<Tensor>,
    ) -> Done<()> {
        self.sound.norm_stream(x, piece, norm)
    }

    fn make_room(&mut self, plan: &ModelPlan, size: BatchSize) -> Done<()> {
        self.sound.make_room(plan, size)
    }

    fn enter_texts(
        &mut self,
        x: &mut Tensor,
        piece: &Piece<'_, Prepared>,
        entry: &EntryWeights<Matrix, Tensor>,
    ) -> Done<()> {
        self.sound.enter_texts(x, piece, entry)
    }

    fn vectors(
        &mut self,
        x: &Tensor,
        texts: &[Range<usize>],
        ending: &VectorEnding<'_, Matrix, Tensor>,
        out: &mut [f32],
    ) -> Done<()> {
        self.sound.vectors(x, texts, ending, out)
    }

    fn experts(
        &mut self,
        x: &mut Tensor,
        plan: &ExpertsPlan,
        weights: &ExpertsWeights<Matrix, Tensor>,
    ) -> Done<()> {
        self.sound.experts(x, plan, weights)
    }

    fn join(
        &mut self,
        x: &mut Tensor,
        piece: &Piece<'_, Prepared>,
        branch: Tensor,
        end: &BranchEnd<Matrix, Tensor>,
    ) -> Done<()> {
        self.sound.join(x, piece, branch, end)?;
        *x = self.meddle(Operation::Join, x.clone())?;
        Ok(())
    }

    fn logits(
        &mut self,
        x: &Tensor,
        wanted: &[usize],
        head: &Head<'_, Matrix, Tensor>,
        out: &mut [f32],
    ) -> Done<()> {
        self.sound.logits(x, wanted, head, out)?;
        let shape = (wanted.len(), out.len() / wanted.len());
        let logits = Tensor::from_slice(out, shape, x.device()).expect("as many values");
        let logits = self.meddle(Operation::Logits, logits)?;
        out.copy_from_slice(&self.sound.values(&logits)?);
        Ok(())
    }

    fn hidden(&mut self, x: &Tensor, wanted: &[usize], norm: &Tensor, out: &mut [f32]) -> Done<()> {
        self.sound.hidden(x, wanted, norm, out)
    }

    fn end_pass(&mut self, x: Tensor, prepared: Vec<Prepared>) -> Done<()> {
        self.sound.end_pass(x, prepared)
    }
}
