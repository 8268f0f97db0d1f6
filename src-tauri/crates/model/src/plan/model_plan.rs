//! A transformer, layer by layer: everything by which one order of operations serves several families.

use std::ops::Range;

use kernels::attention::Ahead;
use scheduler::{AttentionSpan, EmbedSpec, LayerCache, LayerKv, ModelCacheSpec, ValuePlace};

use super::encoder_plan::EncoderPlan;
use super::experts::ExpertsPlan;
use super::recurrent::RecurrentPlan;
use super::rope_plan::{RopeFactors, RopePlan};

/// A model, described.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelPlan {
    /// The name that its file gives its architecture.
    pub architecture: &'static str,
    /// Rows of the embedding and of the output head.
    pub n_vocab: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Positions that the model was trained for.
    pub max_context: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f32,
    /// Embeddings are multiplied by this.
    pub embedding_scale: f32,
    /// What a branch adds to the stream is multiplied by this first.
    pub branch_scale: f32,
    /// Logits are multiplied by this, before any cap.
    pub logit_scale: f32,
    /// Logits go through `cap · tanh(logit / cap)`.
    pub logit_softcap: Option<f32>,
    /// Values that each token has for each layer, beside its embedding.
    pub n_per_layer: Option<usize>,
    /// The rotations in use.
    pub ropes: Vec<RopePlan>,
    /// One entry a layer.
    pub layers: Vec<LayerPlan>,
    /// What makes it an encoder, if it is one.
    pub encoder: Option<EncoderPlan>,
    /// Blocks of the file that are ignored: behind its layers, they guess further tokens.
    pub ignored_blocks: Range<usize>,
}

/// A layer: what mixes tokens, then what each token goes through by itself; one of them may be missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerPlan {
    /// What mixes tokens.
    pub mixer: MixerPlan,
    /// What each goes through by itself.
    pub feed_forward: FeedForwardPlan,
    /// The stream is multiplied by this behind both.
    pub output_scale: f32,
}

/// What mixes tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MixerPlan {
    /// Attention whose heads have keys and values.
    Softmax(AttentionPlan),
    /// Attention of all heads to one vector a token.
    Latent(LatentPlan),
    /// A state of fixed size.
    Recurrent(RecurrentPlan),
    /// None: each token stays by itself.
    Nothing,
}

impl LayerPlan {
    /// Its attention, if its heads have keys and values.
    pub fn softmax(&self) -> Option<&AttentionPlan> {
        match &self.mixer {
            MixerPlan::Softmax(attention) => Some(attention),
            MixerPlan::Latent(_) | MixerPlan::Recurrent(_) | MixerPlan::Nothing => None,
        }
    }

    /// As [`LayerPlan::softmax`].
    pub(crate) fn softmax_mut(&mut self) -> Option<&mut AttentionPlan> {
        match &mut self.mixer {
            MixerPlan::Softmax(attention) => Some(attention),
            MixerPlan::Latent(_) | MixerPlan::Recurrent(_) | MixerPlan::Nothing => None,
        }
    }

    /// What it has in the pool.
    pub(crate) fn kv(&self) -> LayerKv {
        match self.mixer {
            MixerPlan::Softmax(AttentionPlan { kv: KvPlan::Of(layer), .. }) => LayerKv::Of(layer),
            MixerPlan::Softmax(AttentionPlan { n_kv_heads, k_dim, v_dim, span, .. }) => {
                let v_place = ValuePlace::BesideKeys;
                LayerKv::Own(LayerCache { n_kv_heads, k_dim, v_dim, v_place, span })
            }
            MixerPlan::Latent(latent) => LayerKv::Own(LayerCache {
                n_kv_heads: 1,
                k_dim: latent.k_dim(),
                v_dim: latent.n_latent,
                v_place: ValuePlace::InKeys,
                span: AttentionSpan::Full,
            }),
            MixerPlan::Recurrent(recurrent) => LayerKv::State(recurrent.state()),
            MixerPlan::Nothing => LayerKv::Nothing,
        }
    }
}

/// Softmax attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionPlan {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Values in a query's or key's head.
    pub k_dim: usize,
    /// Values in a value's head.
    pub v_dim: usize,
    /// How far it looks.
    pub span: AttentionSpan,
    /// Whether it looks ahead too, as encoders' do: as far as back.
    pub ahead: Ahead,
    /// Scores are multiplied by this.
    pub scale: f32,
    /// Scores go through `cap · tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// Index into [`ModelPlan::ropes`]; none where nothing turns.
    pub rope_idx: Option<usize>,
    /// Over what the norms of queries and keys go, where it has them.
    pub norm_over: NormOver,
    /// Queries grow with their position.
    pub temperature: Option<Temperature>,
    /// Whose keys and values it sees.
    pub kv: KvPlan,
    /// Values are normed head by head, without weights.
    pub norms_values: bool,
    /// Each query comes with a gate, by whose sigmoid what it gathers is multiplied; keys and values are of one size then.
    pub is_gated: bool,
}

/// Whose keys and values an attention sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvPlan {
    /// Its own.
    Own,
    /// Those of the layer with this index, an earlier one of the same span and shape that has its own.
    Of(usize),
}

/// Latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): of each token a latent vector and a turned one are kept,
/// of which every head makes its key and value. What it makes of them is done to its query, and to what that gathers,
/// instead: so all heads attend to the kept vectors, as to one KV head whose values are its keys' first ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentPlan {
    /// Query heads.
    pub n_heads: usize,
    /// Values of the latent vector.
    pub n_latent: usize,
    /// Values that turn, of a head's query and of what is kept of a token.
    pub n_rot: usize,
    /// Values of a head's query that do not turn.
    pub n_nope: usize,
    /// Values of a head's output.
    pub v_dim: usize,
    /// The width through which queries come, where they come through a narrower one.
    pub q_rank: Option<usize>,
    /// Scores are multiplied by this.
    pub scale: f32,
    /// Index into [`ModelPlan::ropes`].
    pub rope_idx: usize,
    /// Queries grow with their position.
    pub temperature: Option<Temperature>,
}

impl LatentPlan {
    /// Values that are kept of a token: its key.
    pub fn k_dim(&self) -> usize {
        self.n_latent + self.n_rot
    }
}

/// The values that a norm of queries or keys takes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormOver {
    /// Each head's, by weights that all heads share.
    Heads,
    /// A token's of all heads.
    Tokens,
}

/// Queries at position p, turned, are multiplied by `1 + scale · ln(1 + floor(p / original_context))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    /// How fast they grow.
    pub scale: f32,
    /// Positions before which they do not.
    pub original_context: usize,
}

impl Temperature {
    /// The factor of queries at `position`.
    pub fn at(self, position: usize) -> f32 {
        let past = (position / self.original_context) as f32;
        1.0 + self.scale * (1.0 + past).ln()
    }
}

/// What a token goes through by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FeedForwardPlan {
    /// One gated feed-forward for all tokens.
    Gated(GatedPlan),
    /// One without a gate.
    Ungated(UngatedPlan),
    /// A few of many for each token.
    Experts(ExpertsPlan),
    /// None.
    Nothing,
}

/// A feed-forward of two products, of which one gates the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatedPlan {
    /// Its width.
    pub n_ff: usize,
    /// What the gate goes through.
    pub activation: Activation,
}

/// A feed-forward of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UngatedPlan {
    /// Its width.
    pub n_ff: usize,
    /// What its values go through.
    pub function: UngatedFunction,
}

/// What values go through that nothing gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UngatedFunction {
    /// GELU in its tanh form.
    GeluTanh,
    /// `max(x, 0)²`.
    SquaredRelu,
}

/// The function of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// GELU in its tanh form.
    GeluTanh,
}

impl ModelPlan {
    /// Which factors turn a model in a context of at most `n_tokens`; none where there is no choice.
    ///
    /// The choice is made once, for all positions, so that a token's keys do not depend on how long its sequence gets.
    /// It is part of what KV is the same by.
    pub fn rope_factors(&self, n_tokens: usize) -> Option<RopeFactors> {
        let long = self.ropes.iter().find_map(|rope| rope.long.as_ref())?;
        let is_long = n_tokens > long.original_context;
        Some(if is_long { RopeFactors::Long } else { RopeFactors::Short })
    }

    /// This model in a context of at most `n_tokens`: of two sets of factors one is left.
    pub(crate) fn in_context(mut self, n_tokens: usize) -> ModelPlan {
        let chosen = self.rope_factors(n_tokens);
        for rope in &mut self.ropes {
            if let Some(long) = rope.long.take().filter(|_| chosen == Some(RopeFactors::Long)) {
                rope.factors = long.factors;
            }
        }
        self
    }

    /// Its attentions whose heads have keys and values, in layer order.
    pub(crate) fn attentions_mut(&mut self) -> impl Iterator<Item = &mut AttentionPlan> {
        self.layers.iter_mut().filter_map(LayerPlan::softmax_mut)
    }

    /// The shape of the model's KV cache.
    pub fn cache_spec(&self) -> ModelCacheSpec {
        ModelCacheSpec {
            layers: self.layers.iter().map(LayerPlan::kv).collect(),
            max_context: self.max_context,
            n_vocab: self.n_vocab,
        }
    }

    /// What the model is like to those who ask it for vectors; none of a model that continues texts.
    pub fn embed_spec(&self) -> Option<EmbedSpec> {
        let EncoderPlan { pooling, projections } = self.encoder.as_ref()?;
        Some(EmbedSpec {
            width: projections.last().map_or(self.n_embd, |last| last.n_out),
            max_tokens: self.max_context,
            n_vocab: self.n_vocab,
            pooling: *pooling,
            n_parts: self.layers.len(),
        })
    }
}
