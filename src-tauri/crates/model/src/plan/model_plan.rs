//! A decoder-only transformer, layer by layer: everything by which one decoder serves several families.

use scheduler::{AttentionSpan, LayerCache, ModelCacheSpec};

use super::experts::ExpertsPlan;
use super::rope_plan::RopePlan;

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
    /// The rotations in use.
    pub ropes: Vec<RopePlan>,
    /// One entry a layer.
    pub layers: Vec<LayerPlan>,
}

/// A layer: what mixes tokens, then what each token goes through by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerPlan {
    /// What mixes tokens.
    pub attention: AttentionPlan,
    /// What each goes through by itself.
    pub feed_forward: FeedForwardPlan,
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
    /// How far back it looks.
    pub span: AttentionSpan,
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
    /// A few of many for each token.
    Experts(ExpertsPlan),
}

/// A feed-forward of two products, of which one gates the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatedPlan {
    /// Its width.
    pub n_ff: usize,
    /// What the gate goes through.
    pub activation: Activation,
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
    /// The shape of the model's KV cache.
    pub fn cache_spec(&self) -> ModelCacheSpec {
        let layer = |layer: &LayerPlan| {
            let AttentionPlan { n_kv_heads, k_dim, v_dim, span, .. } = layer.attention;
            LayerCache { n_kv_heads, k_dim, v_dim, span }
        };
        ModelCacheSpec {
            layers: self.layers.iter().map(layer).collect(),
            max_context: self.max_context,
            n_vocab: self.n_vocab,
        }
    }
}
