//! The operations of a model by the CPU's kernels.
//!
//! A layer is done chunk by chunk of tokens, so that what lies between its products stays in the second-level
//! cache while the layer's weights come from the third.

use std::ops::Range;

use kernels::activations::{Activations, Form, GateUp, RmsNorm, Rounding};
use kernels::isa::Isa;
use kernels::kv::KvArena;
use kernels::kv::part::{gather, ranges_of, scatter};
use kernels::matmul::{Epilogue, Product, matmul, matmul_each};
use kernels::ops::{self, HeadNorm, HeadPrep, Rope, RopeTable};
use kernels::recurrent::delta::TokenGates;
use kernels::recurrent::mamba2::TokenSteps;
use kernels::threads::Threads;
use kernels::weights::Weights;
use scheduler::{LentBlock, RunError};

use super::experts::{Machine, Mixture};
use super::place::Place;
use crate::plan::encoder_weights::{EntryWeights, LayerNormWeights};
use crate::plan::experts::ExpertsPlan;
use crate::plan::model_plan::{Activation, GatedPlan, LayerPlan, ModelPlan, UngatedFunction, UngatedPlan};
use crate::plan::weights::{
    BranchEnd, ExpertsWeights, GatedWeights, PerLayerEmbeddings, PerLayerWeights, Projection, UngatedWeights,
};
use crate::run::backend::{Attention, Backend, Head, Latent, Piece, Recurrent, VectorEnding};
use crate::run::batch::Chunk;
use crate::run::pool::Pool;
use crate::run::rotations::rotations;
use crate::run::texts::BatchSize;

/// The CPU, with its pool and the memory between a layer's products.
pub(crate) struct Cpu {
    pub(crate) threads: Threads,
    pub(super) isa: Isa,
    pub(super) arena: KvArena,
    pub(super) layers: Vec<Place>,
    pub(super) ropes: Vec<Rope>,
    pub(super) n_embd: usize,
    pub(super) norm_eps: f32,
    pub(super) branch_scale: f32,
    /// What norms weigh with that have no weights.
    pub(super) ones: Vec<f32>,
    pub(super) buffers: Buffers,
    mixture: Mixture,
}

/// What lies between a layer's products, for one chunk of tokens; kept from chunk to chunk and from step to step.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) acts: Activations,
    /// As `acts`, always rounded to 16 bits.
    pub(super) fine_acts: Activations,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    pub(super) attended: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    /// The output of a branch, before and after its post-norm.
    pub(super) out: Vec<f32>,
    pub(super) normed: Vec<f32>,
    /// The gates of a delta net.
    pub(super) gates: TokenGates,
    /// The steps of Mamba-2.
    pub(super) steps: TokenSteps,
    /// The residual stream of the tokens of which something is wanted.
    pub(super) wanted: Vec<f32>,
    /// A stream and rotations for the next pass.
    pub(super) spare_stream: Vec<f32>,
    pub(super) spare_tables: Vec<RopeTable>,
}

/// A branch's values are in [`Buffers::acts`], as its last product takes them.
pub(crate) struct InActivations(());

impl Cpu {
    /// Run a model of `plan` in `arena`, in whose blocks each layer has its place of `layers`.
    pub(crate) fn new(
        plan: &ModelPlan,
        (arena, layers): (KvArena, Vec<Place>),
        threads: Threads,
        isa: Isa,
        rounding: Rounding,
    ) -> Cpu {
        Cpu {
            threads,
            isa,
            arena,
            layers,
            ropes: rotations(plan),
            n_embd: plan.n_embd,
            norm_eps: plan.norm_eps,
            branch_scale: plan.branch_scale,
            ones: vec![1.0; widest_values(plan)],
            buffers: Buffers::new(rounding),
            mixture: Mixture::new(rounding),
        }
    }

    /// What is done to each query's or key's head.
    pub(super) fn head_prep<'a>(
        &self,
        norm: Option<&'a Vec<f32>>,
        rope: Option<&'a RopeTable>,
    ) -> HeadPrep<'a> {
        let norm = norm.map(|weight| HeadNorm { weight, eps: self.norm_eps });
        HeadPrep { norm, rope }
    }

    /// Put a branch's rows of the stream, normed if the branch begins so, where its products take them from.
    pub(super) fn enter(&mut self, x: &[f32], norm: Option<&Vec<f32>>, form: Form) {
        let Cpu { threads, isa, buffers: Buffers { acts, .. }, n_embd, norm_eps, .. } = self;
        match norm {
            Some(weight) => {
                acts.rms_norm_quantize(threads, *isa, form, x, RmsNorm { weight, eps: *norm_eps });
            }
            None => acts.quantize(threads, *isa, form, x, *n_embd),
        }
    }

    /// Put the stream of the tokens with the indices `wanted` side by side.
    fn gather(&mut self, x: &[f32], wanted: &[usize]) {
        let (n_embd, rows) = (self.n_embd, &mut self.buffers.wanted);
        rows.clear();
        for &token in wanted {
            rows.extend_from_slice(&x[token * n_embd..][..n_embd]);
        }
    }

    /// The values of a chunk's tokens in the stream.
    pub(super) fn values(&self, tokens: &Range<usize>) -> Range<usize> {
        tokens.start * self.n_embd..tokens.end * self.n_embd
    }
}

impl Buffers {
    fn new(rounding: Rounding) -> Buffers {
        let (acts, fine_acts) = (Activations::new(rounding), Activations::new(Rounding::Bits16));
        Buffers { acts, fine_acts, ..Buffers::default() }
    }
}

impl Pool for Cpu {
    fn n_blocks(&self) -> usize {
        self.arena.n_blocks()
    }

    fn copy_block(&mut self, from: usize, to: usize) -> Result<(), RunError> {
        self.arena.copy_block(from, to);
        Ok(())
    }

    fn read(&mut self, block: usize, ranges: &[Range<usize>], out: &mut [u8]) -> Result<(), RunError> {
        gather(self.arena.block(block), ranges, out);
        Ok(())
    }

    fn write(&mut self, block: usize, ranges: &[Range<usize>], bytes: &[u8]) -> Result<(), RunError> {
        scatter(bytes, ranges, self.arena.block_mut(block));
        Ok(())
    }

    fn part(&self, layers: &[usize], n_tokens: usize) -> Option<Vec<Range<usize>>> {
        let places = layers.iter().filter_map(|&layer| self.layers[layer].kv());
        Some(places.flat_map(|place| ranges_of(&place.kv, n_tokens)).collect())
    }

    fn lend(&mut self, block: usize) -> Option<LentBlock> {
        Some(Box::new(self.arena.lend(block)))
    }
}

impl Backend for Cpu {
    type Matrix = Weights;
    type Vector = Vec<f32>;
    type Stream = Vec<f32>;
    type Prepared = Vec<RopeTable>;
    type Branch = InActivations;

    const CHUNK_TOKENS: usize = 128;

    /// A layer's weights are read once a step.
    const CHUNKS_PER_PASS: usize = usize::MAX;

    fn embed(&mut self, pieces: &[&[u32]], embeddings: &Weights, scale: f32) -> Result<Vec<f32>, RunError> {
        let mut x = std::mem::take(&mut self.buffers.spare_stream);
        x.resize(pieces.iter().map(|piece| piece.len()).sum::<usize>() * self.n_embd, 0.0);
        for (&token, x) in pieces.iter().copied().flatten().zip(x.chunks_exact_mut(self.n_embd)) {
            embeddings.embed(token as usize, x);
        }
        if scale != 1.0 {
            ops::scale(&self.threads, self.isa, &mut x, scale);
        }
        Ok(x)
    }

    fn prepare(&mut self, chunk: &Chunk<'_>) -> Result<Vec<RopeTable>, RunError> {
        let Cpu { threads, ropes, buffers, .. } = self;
        let table = |rope: &Rope| {
            let mut table = buffers.spare_tables.pop().unwrap_or_default();
            table.fill(threads, rope, &chunk.positions);
            table
        };
        Ok(ropes.iter().map(table).collect())
    }

    fn attention(
        &mut self,
        x: &Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        layer: &Attention<'_, Weights, Vec<f32>>,
    ) -> Result<InActivations, RunError> {
        self.attend(x, piece, layer)?;
        Ok(InActivations(()))
    }

    fn latent(
        &mut self,
        x: &Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        layer: &Latent<'_, Weights, Vec<f32>>,
    ) -> Result<InActivations, RunError> {
        self.attend_latent(x, piece, layer)?;
        Ok(InActivations(()))
    }

    fn recurrent(
        &mut self,
        x: &Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        layer: &Recurrent<'_, Weights, Vec<f32>>,
    ) -> Result<InActivations, RunError> {
        self.run_recurrent(x, piece, layer)?;
        Ok(InActivations(()))
    }

    fn per_layer_inputs(
        &mut self,
        x: &Vec<f32>,
        pieces: &[&[u32]],
        weights: &PerLayerEmbeddings<Weights, Vec<f32>>,
    ) -> Result<Vec<f32>, RunError> {
        self.inputs_of_layers(x, pieces, weights)
    }

    fn per_layer(
        &mut self,
        x: &Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        (inputs, layer_idx): (&Vec<f32>, usize),
        weights: &PerLayerWeights<Weights, Vec<f32>>,
    ) -> Result<InActivations, RunError> {
        self.gate_inputs(x, piece, (inputs, layer_idx), weights);
        Ok(InActivations(()))
    }

    fn scale(
        &mut self,
        x: &mut Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        factor: f32,
    ) -> Result<(), RunError> {
        let values = self.values(&piece.tokens);
        ops::scale(&self.threads, self.isa, &mut x[values], factor);
        Ok(())
    }

    fn gated(
        &mut self,
        x: &Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        plan: &GatedPlan,
        weights: &GatedWeights<Weights, Vec<f32>>,
    ) -> Result<InActivations, RunError> {
        let form = Form::of([&weights.gate, &weights.up].map(|projection| &projection.matrix));
        self.enter(&x[self.values(&piece.tokens)], weights.norm.as_ref(), form);
        let Cpu { threads, isa, buffers, .. } = self;
        let isa = *isa;
        let Buffers { acts, gate, up, .. } = buffers;

        project(threads, isa, acts, vec![(&weights.gate, &mut *gate), (&weights.up, &mut *up)]);

        let gate_up = GateUp { gate, up };
        let form = Form::of([&weights.end.matrix]);
        match plan.activation {
            Activation::Silu => acts.silu_mul_quantize(threads, isa, form, gate_up, plan.n_ff),
            Activation::GeluTanh => acts.gelu_tanh_mul_quantize(threads, isa, form, gate_up, plan.n_ff),
        }
        Ok(InActivations(()))
    }

    fn ungated(
        &mut self,
        x: &Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        plan: &UngatedPlan,
        weights: &UngatedWeights<Weights, Vec<f32>>,
    ) -> Result<InActivations, RunError> {
        let UngatedWeights { norm, up, end } = weights;
        self.enter(&x[self.values(&piece.tokens)], norm.as_ref(), Form::of([&up.matrix]));
        let Cpu { threads, isa, buffers: Buffers { acts, up: values, .. }, .. } = self;
        project(threads, *isa, acts, vec![(up, &mut *values)]);
        let form = Form::of([&end.matrix]);
        match plan.function {
            UngatedFunction::GeluTanh => acts.gelu_tanh_quantize(threads, *isa, form, values, plan.n_ff),
            UngatedFunction::SquaredRelu => {
                acts.squared_relu_quantize(threads, *isa, form, values, plan.n_ff);
            }
        }
        Ok(InActivations(()))
    }

    fn experts(
        &mut self,
        x: &mut Vec<f32>,
        plan: &ExpertsPlan,
        weights: &ExpertsWeights<Weights, Vec<f32>>,
    ) -> Result<(), RunError> {
        let Cpu { threads, isa, n_embd, norm_eps, branch_scale, mixture, .. } = self;
        let (isa, n_embd, norm_eps) = (*isa, *n_embd, *norm_eps);
        let out = mixture.run(Machine { threads, isa, n_embd, norm_eps }, x, plan, weights);
        if *branch_scale != 1.0 {
            ops::scale(threads, isa, out, *branch_scale);
        }
        ops::add(threads, isa, x, out);
        Ok(())
    }

    fn join(
        &mut self,
        x: &mut Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        _: InActivations,
        end: &BranchEnd<Weights, Vec<f32>>,
    ) -> Result<(), RunError> {
        let values = self.values(&piece.tokens);
        let Cpu { threads, isa, buffers, norm_eps, branch_scale, .. } = self;
        let (isa, x) = (*isa, &mut x[values]);
        let Buffers { acts, out, normed, .. } = buffers;
        if end.bias.is_none() && end.post_norm.is_none() && *branch_scale == 1.0 {
            matmul(threads, isa, &end.matrix, acts, x, Epilogue::Add);
            return Ok(());
        }
        out.resize(x.len(), 0.0);
        matmul(threads, isa, &end.matrix, acts, out, Epilogue::Store);
        if let Some(bias) = &end.bias {
            ops::add_to_rows(threads, isa, out, bias);
        }
        if let Some(weight) = &end.post_norm {
            normed.resize(x.len(), 0.0);
            ops::rms_norm(threads, isa, out, weight, *norm_eps, normed);
            std::mem::swap(out, normed);
        }
        if *branch_scale != 1.0 {
            ops::scale(threads, isa, out, *branch_scale);
        }
        ops::add(threads, isa, x, out);
        Ok(())
    }

    fn norm_stream(
        &mut self,
        x: &mut Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        norm: &LayerNormWeights<Vec<f32>>,
    ) -> Result<(), RunError> {
        let values = self.values(&piece.tokens);
        self.norm_rows(&mut x[values], norm);
        Ok(())
    }

    fn make_room(&mut self, plan: &ModelPlan, size: BatchSize) -> Result<(), RunError> {
        self.make_room_for_texts(plan, size)
    }

    fn enter_texts(
        &mut self,
        x: &mut Vec<f32>,
        piece: &Piece<'_, Vec<RopeTable>>,
        entry: &EntryWeights<Weights, Vec<f32>>,
    ) -> Result<(), RunError> {
        let values = self.values(&piece.tokens);
        self.begin_stream(&mut x[values], &piece.chunk.positions, entry);
        Ok(())
    }

    fn vectors(
        &mut self,
        x: &Vec<f32>,
        texts: &[Range<usize>],
        ending: &VectorEnding<'_, Weights, Vec<f32>>,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        self.vectors_of(x, texts, ending, out)
    }

    fn logits(
        &mut self,
        x: &Vec<f32>,
        wanted: &[usize],
        head: &Head<'_, Weights, Vec<f32>>,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        self.gather(x, wanted);
        let Cpu { threads, isa, buffers, norm_eps, .. } = self;
        let norm = RmsNorm { weight: head.norm, eps: *norm_eps };
        let Buffers { acts, wanted: rows, .. } = buffers;
        acts.rms_norm_quantize(threads, *isa, Form::of([head.matrix]), rows, norm);
        matmul(threads, *isa, head.matrix, acts, out, Epilogue::Store);
        if head.scale != 1.0 {
            ops::scale(threads, *isa, out, head.scale);
        }
        if let Some(cap) = head.softcap {
            ops::softcap(threads, *isa, out, cap);
        }
        Ok(())
    }

    fn hidden(
        &mut self,
        x: &Vec<f32>,
        wanted: &[usize],
        norm: &Vec<f32>,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        self.gather(x, wanted);
        let Cpu { threads, isa, buffers, norm_eps, .. } = self;
        ops::rms_norm(threads, *isa, &buffers.wanted, norm, *norm_eps, out);
        Ok(())
    }

    fn end_pass(&mut self, x: Vec<f32>, prepared: Vec<Vec<RopeTable>>) -> Result<(), RunError> {
        self.buffers.spare_stream = x;
        self.buffers.spare_tables.extend(prepared.into_iter().flatten());
        Ok(())
    }
}

/// Values of the widest head of values that are normed.
fn widest_values(plan: &ModelPlan) -> usize {
    let attentions = plan.layers.iter().filter_map(LayerPlan::softmax);
    attentions.filter(|plan| plan.norms_values).map(|plan| plan.v_dim).max().unwrap_or(0)
}

/// A projection, and where its product goes.
pub(super) type Part<'a> = (&'a Projection<Weights, Vec<f32>>, &'a mut Vec<f32>);

/// Fill each buffer with the product of the activations and a projection.
pub(super) fn project(threads: &Threads, isa: Isa, acts: &Activations, mut parts: Vec<Part<'_>>) {
    for (projection, out) in &mut parts {
        out.resize(acts.n_rows() * projection.matrix.n_out(), 0.0);
    }
    let mut products: Vec<Product<'_>> = parts
        .iter_mut()
        .map(|(projection, out)| Product { weights: &projection.matrix, out, epilogue: Epilogue::Store })
        .collect();
    matmul_each(threads, isa, acts, &mut products);
    for (projection, out) in &mut parts {
        if let Some(bias) = &projection.bias {
            ops::add_to_rows(threads, isa, out, bias);
        }
    }
}
