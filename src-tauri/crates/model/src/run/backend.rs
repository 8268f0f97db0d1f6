//! What computes: coarse operations, one for each kind of mixer and feed-forward and for what joins them, so that a
//! backend may fuse within each as it likes.

use std::ops::Range;

use scheduler::{Pooling, RunError};

use super::batch::Chunk;
use super::pool::Pool;
use super::texts::BatchSize;
use crate::plan::encoder_weights::{EntryWeights, LayerNormWeights, VectorWeights};
use crate::plan::experts::ExpertsPlan;
use crate::plan::model_plan::{AttentionPlan, GatedPlan, LatentPlan, ModelPlan, UngatedPlan};
use crate::plan::recurrent::RecurrentPlan;
use crate::plan::recurrent_weights::RecurrentWeights;
use crate::plan::weights::{
    AttentionWeights, BranchEnd, ExpertsWeights, GatedWeights, LatentWeights, PerLayerEmbeddings,
    PerLayerWeights, UngatedWeights,
};

/// A device with a KV pool of its own.
pub(crate) trait Backend: Pool {
    /// Weights `[n_out, n_in]` to multiply with.
    type Matrix;
    /// Weights of a norm, or what is added to rows.
    type Vector;
    /// The residual stream of a pass, `[n_tokens, n_embd]`.
    type Stream;
    /// What of a chunk is the same for every layer: rotations, places in the pool.
    type Prepared;
    /// What a branch has before its last product.
    type Branch;

    /// Tokens that go through a layer together.
    const CHUNK_TOKENS: usize;

    /// Chunks of which each layer does all before the next layer does the first. The stream and what the chunks were
    /// prepared with are kept for so many.
    const CHUNKS_PER_PASS: usize;

    /// Do `work` and leave the device idle, whether it failed or not.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, RunError>) -> Result<T, RunError>
    where
        Self: Sized,
    {
        work(self)
    }

    /// The embeddings of all `pieces`' tokens in their order, times `scale`.
    fn embed(
        &mut self,
        pieces: &[&[u32]],
        embeddings: &Self::Matrix,
        scale: f32,
    ) -> Result<Self::Stream, RunError>;

    fn prepare(&mut self, chunk: &Chunk<'_>) -> Result<Self::Prepared, RunError>;

    /// Softmax attention: what the chunk's queries gather, after its keys and values have gone to the pool.
    fn attention(
        &mut self,
        x: &Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        layer: &Attention<'_, Self::Matrix, Self::Vector>,
    ) -> Result<Self::Branch, RunError>;

    /// Latent attention: what the chunk's queries gather, each head's output made of it, after what is kept of the
    /// chunk's tokens has gone to the pool.
    fn latent(
        &mut self,
        x: &Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        layer: &Latent<'_, Self::Matrix, Self::Vector>,
    ) -> Result<Self::Branch, RunError>;

    /// What mixes tokens through a state: what comes of the chunk's, whose rows' states are in the pool and go on there.
    fn recurrent(
        &mut self,
        x: &Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        layer: &Recurrent<'_, Self::Matrix, Self::Vector>,
    ) -> Result<Self::Branch, RunError>;

    /// What all `pieces`' tokens have for each layer, `[n_tokens, n_layers · width]`, of the stream `x` as it begins and
    /// of the tokens themselves.
    fn per_layer_inputs(
        &mut self,
        x: &Self::Stream,
        pieces: &[&[u32]],
        weights: &PerLayerEmbeddings<Self::Matrix, Self::Vector>,
    ) -> Result<Self::Stream, RunError>;

    /// What the chunk's tokens have for a layer, gated by the stream; `inputs` are the pass's and the layer's index.
    fn per_layer(
        &mut self,
        x: &Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        inputs: (&Self::Stream, usize),
        weights: &PerLayerWeights<Self::Matrix, Self::Vector>,
    ) -> Result<Self::Branch, RunError>;

    /// Multiply the chunk's stream by `factor`.
    fn scale(
        &mut self,
        x: &mut Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        factor: f32,
    ) -> Result<(), RunError>;

    /// A gated feed-forward.
    fn gated(
        &mut self,
        x: &Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        plan: &GatedPlan,
        weights: &GatedWeights<Self::Matrix, Self::Vector>,
    ) -> Result<Self::Branch, RunError>;

    /// A feed-forward without a gate.
    fn ungated(
        &mut self,
        x: &Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        plan: &UngatedPlan,
        weights: &UngatedWeights<Self::Matrix, Self::Vector>,
    ) -> Result<Self::Branch, RunError>;

    /// A mixture of experts, of all tokens of a pass, joined to their stream.
    fn experts(
        &mut self,
        x: &mut Self::Stream,
        plan: &ExpertsPlan,
        weights: &ExpertsWeights<Self::Matrix, Self::Vector>,
    ) -> Result<(), RunError>;

    /// Add a branch, led through its end, to the chunk's stream.
    fn join(
        &mut self,
        x: &mut Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        branch: Self::Branch,
        end: &BranchEnd<Self::Matrix, Self::Vector>,
    ) -> Result<(), RunError>;

    /// Norm the chunk's stream itself.
    fn norm_stream(
        &mut self,
        x: &mut Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        norm: &LayerNormWeights<Self::Vector>,
    ) -> Result<(), RunError>;

    /// Have memory for a batch of texts of this size.
    fn make_room(&mut self, plan: &ModelPlan, size: BatchSize) -> Result<(), RunError>;

    /// Add to the chunk's stream, which is its tokens' embeddings, what an encoder's begins with beside them.
    fn enter_texts(
        &mut self,
        x: &mut Self::Stream,
        piece: &Piece<'_, Self::Prepared>,
        entry: &EntryWeights<Self::Matrix, Self::Vector>,
    ) -> Result<(), RunError>;

    /// Write the vectors of whole texts, which are these of the pass's tokens, to `out`, `[n_texts, width]`.
    fn vectors(
        &mut self,
        x: &Self::Stream,
        texts: &[Range<usize>],
        ending: &VectorEnding<'_, Self::Matrix, Self::Vector>,
        out: &mut [f32],
    ) -> Result<(), RunError>;

    /// Write the logits of the pass's tokens with the indices `wanted` to `out`, `[n_wanted, n_vocab]`.
    fn logits(
        &mut self,
        x: &Self::Stream,
        wanted: &[usize],
        head: &Head<'_, Self::Matrix, Self::Vector>,
        out: &mut [f32],
    ) -> Result<(), RunError>;

    /// Write the normed stream of the pass's tokens with the indices `wanted` to `out`, `[n_wanted, n_embd]`.
    fn hidden(
        &mut self,
        x: &Self::Stream,
        wanted: &[usize],
        norm: &Self::Vector,
        out: &mut [f32],
    ) -> Result<(), RunError>;

    /// Take back what a pass was done with.
    fn end_pass(&mut self, x: Self::Stream, prepared: Vec<Self::Prepared>) -> Result<(), RunError>;
}

/// A chunk in its pass.
pub(crate) struct Piece<'a, P> {
    pub(crate) chunk: &'a Chunk<'a>,
    /// The chunk's tokens in the pass's stream.
    pub(crate) tokens: Range<usize>,
    pub(crate) prepared: &'a P,
}

/// The `chunks` of a pass, at least one, with what each was prepared with.
pub(crate) fn pieces_of<'a, P>(chunks: &'a [Chunk<'a>], prepared: &'a [P]) -> Vec<Piece<'a, P>> {
    let first = chunks[0].tokens.start;
    let piece = |(chunk, prepared): (&'a Chunk<'a>, &'a P)| {
        let tokens = chunk.tokens.start - first..chunk.tokens.end - first;
        Piece { chunk, tokens, prepared }
    };
    chunks.iter().zip(prepared).map(piece).collect()
}

impl<P> Piece<'_, P> {
    /// The piece in parts of at most `n_tokens`, for what each token goes through by itself.
    pub(crate) fn parts(&self, n_tokens: usize) -> impl Iterator<Item = Piece<'_, P>> {
        let Piece { chunk, ref tokens, prepared } = *self;
        tokens.clone().step_by(n_tokens).map(move |start| {
            let tokens = start..tokens.end.min(start + n_tokens);
            Piece { chunk, tokens, prepared }
        })
    }
}

/// The attention of one layer.
pub(crate) struct Attention<'a, M, V> {
    /// Where its keys and values lie, says the layout.
    pub(crate) layer_idx: usize,
    pub(crate) plan: &'a AttentionPlan,
    pub(crate) weights: &'a AttentionWeights<M, V>,
}

/// The latent attention of one layer.
pub(crate) struct Latent<'a, M, V> {
    /// Where what it keeps lies, says the layout.
    pub(crate) layer_idx: usize,
    pub(crate) plan: &'a LatentPlan,
    pub(crate) weights: &'a LatentWeights<M, V>,
}

/// What mixes tokens through a state in one layer.
pub(crate) struct Recurrent<'a, M, V> {
    /// Where its state lies, says the layout.
    pub(crate) layer_idx: usize,
    pub(crate) plan: &'a RecurrentPlan,
    pub(crate) weights: &'a RecurrentWeights<M, V>,
}

/// What makes texts' vectors of the stream.
pub(crate) struct VectorEnding<'a, M, V> {
    pub(crate) pooling: Pooling,
    pub(crate) weights: &'a VectorWeights<M, V>,
}

/// What makes logits of the stream.
pub(crate) struct Head<'a, M, V> {
    pub(crate) norm: &'a V,
    pub(crate) matrix: &'a M,
    /// Logits are multiplied by this.
    pub(crate) scale: f32,
    /// Then they go through `cap · tanh(logit / cap)`.
    pub(crate) softcap: Option<f32>,
}
