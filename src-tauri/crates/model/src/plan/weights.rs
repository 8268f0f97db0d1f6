//! What a model multiplies with, each matrix and vector in its place: `M` and `V` are what a backend makes of them, or,
//! before that, where they stand in the file.

use super::convert::Convert;
use super::encoder_weights::{EntryWeights, StreamNorms, VectorWeights};
use super::products::optional;
pub(crate) use super::products::{BranchEnd, Projection};
use super::recurrent_weights::RecurrentWeights;

/// Everything of a model.
pub(crate) struct ModelWeights<M, V> {
    pub(crate) embeddings: M,
    pub(crate) layers: Vec<LayerWeights<M, V>>,
    pub(crate) ending: Ending<M, V>,
    /// What an encoder's stream begins with.
    pub(crate) entry: Option<EntryWeights<M, V>>,
    /// What tokens have for each layer.
    pub(crate) per_layer: Option<PerLayerEmbeddings<M, V>>,
}

/// What is made of the stream in the end.
pub(crate) enum Ending<M, V> {
    Logits(HeadWeights<M, V>),
    Vectors(VectorWeights<M, V>),
}

/// What makes logits of the stream.
pub(crate) struct HeadWeights<M, V> {
    pub(crate) norm: V,
    /// Absent when the embeddings serve as one.
    pub(crate) matrix: Option<M>,
}

/// Vectors of one width for each layer, of the tokens themselves and of the stream as it begins.
pub(crate) struct PerLayerEmbeddings<M, V> {
    /// `[n_vocab, n_layers · width]`
    pub(crate) embeddings: M,
    /// `[n_layers · width, n_embd]`
    pub(crate) projection: M,
    /// Over each layer's part of the projection.
    pub(crate) norm: V,
}

/// One layer; matrices are `[n_out, n_in]`.
pub(crate) struct LayerWeights<M, V> {
    pub(crate) mixer: MixerWeights<M, V>,
    pub(crate) feed_forward: FeedForwardWeights<M, V>,
    /// A third branch, which adds what the tokens have for this layer.
    pub(crate) per_layer: Option<PerLayerWeights<M, V>>,
    /// Where the stream itself is normed.
    pub(crate) norms: Option<StreamNorms<V>>,
}

/// What adds a token's vector for a layer to the stream.
pub(crate) struct PerLayerWeights<M, V> {
    /// Its product gates the vector.
    pub(crate) gate: M,
    pub(crate) end: BranchEnd<M, V>,
}

/// What mixes tokens.
pub(crate) enum MixerWeights<M, V> {
    Softmax(AttentionWeights<M, V>),
    Latent(LatentWeights<M, V>),
    Recurrent(RecurrentWeights<M, V>),
    Nothing,
}

/// A latent attention with the norm in front of it.
pub(crate) struct LatentWeights<M, V> {
    pub(crate) norm: V,
    pub(crate) queries: LatentQueries<M, V>,
    /// Makes what is kept of a token, the latent vector and the turned one.
    pub(crate) kv: M,
    /// Over the latent vector.
    pub(crate) kv_norm: V,
    /// For each head what makes a query's part for latent vectors of the one that does not turn, `[n_latent, n_nope]`.
    pub(crate) k_b: Vec<M>,
    /// For each head what makes its output of latent vectors, `[v_dim, n_latent]`.
    pub(crate) v_b: Vec<M>,
    pub(crate) end: BranchEnd<M, V>,
}

/// What makes the queries of a latent attention, `[n_heads · (n_nope + n_rot), …]`.
pub(crate) enum LatentQueries<M, V> {
    Whole(M),
    /// Through a narrower width, with a norm there.
    Low {
        down: M,
        norm: V,
        up: M,
    },
}

/// An attention with the norm in front of it, if there is one.
pub(crate) struct AttentionWeights<M, V> {
    pub(crate) norm: Option<V>,
    /// Makes each head's query, and behind it its gate where the attention is gated.
    pub(crate) q: Projection<M, V>,
    /// Absent where another layer's keys and values are seen.
    pub(crate) k: Option<Projection<M, V>>,
    /// Absent as `k` is, and where the product that keys are made of serves as values.
    pub(crate) v: Option<Projection<M, V>>,
    /// Queries are normed before they turn.
    pub(crate) q_norm: Option<V>,
    /// Keys are.
    pub(crate) k_norm: Option<V>,
    /// A score for each query head that takes weight and has no value.
    pub(crate) sinks: Option<V>,
    pub(crate) end: BranchEnd<M, V>,
}

/// What a token goes through by itself.
pub(crate) enum FeedForwardWeights<M, V> {
    Gated(GatedWeights<M, V>),
    Ungated(UngatedWeights<M, V>),
    Experts(ExpertsWeights<M, V>),
    Nothing,
}

/// A gated feed-forward with the norm in front of it, if there is one.
pub(crate) struct GatedWeights<M, V> {
    pub(crate) norm: Option<V>,
    pub(crate) gate: Projection<M, V>,
    pub(crate) up: Projection<M, V>,
    pub(crate) end: BranchEnd<M, V>,
}

/// A feed-forward without a gate, with the norm in front of it, if there is one.
pub(crate) struct UngatedWeights<M, V> {
    pub(crate) norm: Option<V>,
    pub(crate) up: Projection<M, V>,
    pub(crate) end: BranchEnd<M, V>,
}

/// A mixture of experts with the norms around it.
pub(crate) struct ExpertsWeights<M, V> {
    /// In front of the experts, and of the router and the shared expert where those have none of their own.
    pub(crate) norm: Option<V>,
    /// In front of the router.
    pub(crate) router_norm: Option<V>,
    /// A logit for each expert.
    pub(crate) router: Projection<M, V>,
    /// What is added to scores for the choice, and not to what weighs.
    pub(crate) selection_bias: Option<V>,
    /// To the experts' width and back, where it is another one; routers and shared experts stay at the model's.
    pub(crate) latent: Option<LatentExpertsWeights<M>>,
    /// Absent where nothing gates.
    pub(crate) gate: Option<ExpertMatrices<M, V>>,
    pub(crate) up: ExpertMatrices<M, V>,
    pub(crate) down: ExpertMatrices<M, V>,
    /// The experts' sum is normed before the shared expert is added.
    pub(crate) sum_norm: Option<V>,
    pub(crate) shared: Option<SharedExpertWeights<M, V>>,
    /// What comes of all is normed before it joins the residual stream.
    pub(crate) post_norm: Option<V>,
}

/// The ways to experts of another width than the model's and back.
pub(crate) struct LatentExpertsWeights<M> {
    /// `[n_latent, n_embd]`
    pub(crate) down: M,
    /// `[n_embd, n_latent]`
    pub(crate) up: M,
}

/// One matrix of each expert.
pub(crate) struct ExpertMatrices<M, V> {
    pub(crate) each: Vec<M>,
    /// What an expert's products are multiplied with: `[n_experts]`.
    pub(crate) scale: Option<V>,
    /// What is added to an expert's products then: `[n_experts, n_out]`.
    pub(crate) bias: Option<V>,
}

/// The expert that every token goes through.
pub(crate) struct SharedExpertWeights<M, V> {
    /// In front of it, where it is not the experts'.
    pub(crate) norm: Option<V>,
    /// Absent where nothing gates.
    pub(crate) gate: Option<M>,
    pub(crate) up: M,
    pub(crate) down: M,
    /// One row, the sigmoid of whose product the result is multiplied with.
    pub(crate) weight: Option<M>,
    /// The result is normed before it is added to the experts' sum.
    pub(crate) post_norm: Option<V>,
}

impl<M, V> ModelWeights<M, V> {
    /// The same places, filled with what `by` makes of what is in them.
    pub(crate) fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<ModelWeights<C::Matrix, C::Vector>, C::Error> {
        Ok(ModelWeights {
            embeddings: by.matrix(&self.embeddings)?,
            layers: self.layers.iter().map(|layer| layer.convert(by)).collect::<Result<_, _>>()?,
            ending: self.ending.convert(by)?,
            entry: self.entry.as_ref().map(|entry| entry.convert(by)).transpose()?,
            per_layer: self.per_layer.as_ref().map(|per_layer| per_layer.convert(by)).transpose()?,
        })
    }
}

impl<M, V> Ending<M, V> {
    fn convert<C: Convert<M, V>>(&self, by: &mut C) -> Result<Ending<C::Matrix, C::Vector>, C::Error> {
        Ok(match self {
            Ending::Logits(HeadWeights { norm, matrix }) => {
                let norm = by.vector(norm)?;
                let matrix = matrix.as_ref().map(|matrix| by.matrix(matrix)).transpose()?;
                Ending::Logits(HeadWeights { norm, matrix })
            }
            Ending::Vectors(vectors) => Ending::Vectors(vectors.convert(by)?),
        })
    }
}

impl<M, V> PerLayerEmbeddings<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<PerLayerEmbeddings<C::Matrix, C::Vector>, C::Error> {
        let PerLayerEmbeddings { embeddings, projection, norm } = self;
        let (embeddings, projection) = (by.matrix(embeddings)?, by.matrix(projection)?);
        Ok(PerLayerEmbeddings { embeddings, projection, norm: by.vector(norm)? })
    }
}

impl<M, V> LayerWeights<M, V> {
    /// As [`ModelWeights::convert`].
    pub(crate) fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<LayerWeights<C::Matrix, C::Vector>, C::Error> {
        let LayerWeights { mixer, feed_forward, per_layer, norms } = self;
        let per_layer = |by: &mut C| match per_layer {
            Some(PerLayerWeights { gate, end }) => {
                Ok(Some(PerLayerWeights { gate: by.matrix(gate)?, end: end.convert(by)? }))
            }
            None => Ok(None),
        };
        Ok(LayerWeights {
            mixer: mixer.convert(by)?,
            feed_forward: feed_forward.convert(by)?,
            per_layer: per_layer(by)?,
            norms: norms.as_ref().map(|norms| norms.convert(by)).transpose()?,
        })
    }
}

impl<M, V> MixerWeights<M, V> {
    fn convert<C: Convert<M, V>>(&self, by: &mut C) -> Result<MixerWeights<C::Matrix, C::Vector>, C::Error> {
        Ok(match self {
            MixerWeights::Softmax(attention) => MixerWeights::Softmax(attention.convert(by)?),
            MixerWeights::Latent(latent) => MixerWeights::Latent(latent.convert(by)?),
            MixerWeights::Recurrent(recurrent) => MixerWeights::Recurrent(recurrent.convert(by)?),
            MixerWeights::Nothing => MixerWeights::Nothing,
        })
    }
}

impl<M, V> AttentionWeights<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<AttentionWeights<C::Matrix, C::Vector>, C::Error> {
        let AttentionWeights { norm, q, k, v, q_norm, k_norm, sinks, end } = self;
        let projection = |projection: &Option<Projection<M, V>>, by: &mut C| {
            projection.as_ref().map(|projection| projection.convert(by)).transpose()
        };
        Ok(AttentionWeights {
            norm: optional(norm, by)?,
            q: q.convert(by)?,
            k: projection(k, by)?,
            v: projection(v, by)?,
            q_norm: optional(q_norm, by)?,
            k_norm: optional(k_norm, by)?,
            sinks: optional(sinks, by)?,
            end: end.convert(by)?,
        })
    }
}

impl<M, V> LatentWeights<M, V> {
    fn convert<C: Convert<M, V>>(&self, by: &mut C) -> Result<LatentWeights<C::Matrix, C::Vector>, C::Error> {
        let LatentWeights { norm, queries, kv, kv_norm, k_b, v_b, end } = self;
        Ok(LatentWeights {
            norm: by.vector(norm)?,
            queries: match queries {
                LatentQueries::Whole(matrix) => LatentQueries::Whole(by.matrix(matrix)?),
                LatentQueries::Low { down, norm, up } => {
                    let (down, norm) = (by.matrix(down)?, by.vector(norm)?);
                    LatentQueries::Low { down, norm, up: by.matrix(up)? }
                }
            },
            kv: by.matrix(kv)?,
            kv_norm: by.vector(kv_norm)?,
            k_b: k_b.iter().map(|matrix| by.matrix(matrix)).collect::<Result<_, _>>()?,
            v_b: v_b.iter().map(|matrix| by.matrix(matrix)).collect::<Result<_, _>>()?,
            end: end.convert(by)?,
        })
    }
}

impl<M, V> FeedForwardWeights<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<FeedForwardWeights<C::Matrix, C::Vector>, C::Error> {
        Ok(match self {
            FeedForwardWeights::Gated(gated) => FeedForwardWeights::Gated(gated.convert(by)?),
            FeedForwardWeights::Ungated(ungated) => FeedForwardWeights::Ungated(ungated.convert(by)?),
            FeedForwardWeights::Experts(experts) => FeedForwardWeights::Experts(experts.convert(by)?),
            FeedForwardWeights::Nothing => FeedForwardWeights::Nothing,
        })
    }

    /// Give the branch, if there is one, this norm in front of it.
    pub(crate) fn set_norm(&mut self, norm: Option<V>) {
        match self {
            FeedForwardWeights::Gated(gated) => gated.norm = norm,
            FeedForwardWeights::Ungated(ungated) => ungated.norm = norm,
            FeedForwardWeights::Experts(experts) => experts.norm = norm,
            FeedForwardWeights::Nothing => {}
        }
    }

    /// Give the branch, if there is one, this norm behind it.
    pub(crate) fn set_post_norm(&mut self, norm: Option<V>) {
        match self {
            FeedForwardWeights::Gated(gated) => gated.end.post_norm = norm,
            FeedForwardWeights::Ungated(ungated) => ungated.end.post_norm = norm,
            FeedForwardWeights::Experts(experts) => experts.post_norm = norm,
            FeedForwardWeights::Nothing => {}
        }
    }
}

impl<M, V> GatedWeights<M, V> {
    fn convert<C: Convert<M, V>>(&self, by: &mut C) -> Result<GatedWeights<C::Matrix, C::Vector>, C::Error> {
        let GatedWeights { norm, gate, up, end } = self;
        Ok(GatedWeights {
            norm: optional(norm, by)?,
            gate: gate.convert(by)?,
            up: up.convert(by)?,
            end: end.convert(by)?,
        })
    }
}

impl<M, V> UngatedWeights<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<UngatedWeights<C::Matrix, C::Vector>, C::Error> {
        let UngatedWeights { norm, up, end } = self;
        Ok(UngatedWeights { norm: optional(norm, by)?, up: up.convert(by)?, end: end.convert(by)? })
    }
}

impl<M, V> ExpertsWeights<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<ExpertsWeights<C::Matrix, C::Vector>, C::Error> {
        Ok(ExpertsWeights {
            norm: optional(&self.norm, by)?,
            router_norm: optional(&self.router_norm, by)?,
            router: self.router.convert(by)?,
            selection_bias: optional(&self.selection_bias, by)?,
            latent: match &self.latent {
                Some(LatentExpertsWeights { down, up }) => {
                    Some(LatentExpertsWeights { down: by.matrix(down)?, up: by.matrix(up)? })
                }
                None => None,
            },
            gate: self.gate.as_ref().map(|gate| gate.convert(by)).transpose()?,
            up: self.up.convert(by)?,
            down: self.down.convert(by)?,
            sum_norm: optional(&self.sum_norm, by)?,
            shared: self.shared.as_ref().map(|shared| shared.convert(by)).transpose()?,
            post_norm: optional(&self.post_norm, by)?,
        })
    }
}

impl<M, V> ExpertMatrices<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<ExpertMatrices<C::Matrix, C::Vector>, C::Error> {
        let each = self.each.iter().map(|matrix| by.matrix(matrix)).collect::<Result<_, _>>()?;
        Ok(ExpertMatrices { each, scale: optional(&self.scale, by)?, bias: optional(&self.bias, by)? })
    }
}

impl<M, V> SharedExpertWeights<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<SharedExpertWeights<C::Matrix, C::Vector>, C::Error> {
        let matrix = |of: &Option<M>, by: &mut C| of.as_ref().map(|matrix| by.matrix(matrix)).transpose();
        Ok(SharedExpertWeights {
            norm: optional(&self.norm, by)?,
            gate: matrix(&self.gate, by)?,
            up: by.matrix(&self.up)?,
            down: by.matrix(&self.down)?,
            weight: matrix(&self.weight, by)?,
            post_norm: optional(&self.post_norm, by)?,
        })
    }
}
