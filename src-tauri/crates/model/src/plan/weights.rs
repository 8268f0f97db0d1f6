//! What a decoder multiplies with, each matrix and vector in its place: `M` and `V` are what a backend makes of them, or,
//! before that, where they stand in the file.

/// Everything of a model.
pub(crate) struct ModelWeights<M, V> {
    pub(crate) embeddings: M,
    pub(crate) layers: Vec<LayerWeights<M, V>>,
    pub(crate) output_norm: V,
    /// The output head; absent when the embeddings serve as one.
    pub(crate) output: Option<M>,
}

/// One layer; matrices are `[n_out, n_in]`.
pub(crate) struct LayerWeights<M, V> {
    pub(crate) attention: AttentionWeights<M, V>,
    pub(crate) feed_forward: FeedForwardWeights<M, V>,
}

/// An attention with the norm in front of it, if there is one.
pub(crate) struct AttentionWeights<M, V> {
    pub(crate) norm: Option<V>,
    pub(crate) q: Projection<M, V>,
    pub(crate) k: Projection<M, V>,
    pub(crate) v: Projection<M, V>,
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
    Experts(ExpertsWeights<M, V>),
}

/// A gated feed-forward with the norm in front of it, if there is one.
pub(crate) struct GatedWeights<M, V> {
    pub(crate) norm: Option<V>,
    pub(crate) gate: M,
    pub(crate) up: M,
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

/// A product to whose rows a vector may be added.
pub(crate) struct Projection<M, V> {
    pub(crate) matrix: M,
    pub(crate) bias: Option<V>,
}

/// The last product of a branch, which then joins the residual stream.
pub(crate) struct BranchEnd<M, V> {
    pub(crate) matrix: M,
    /// What is added to the product.
    pub(crate) bias: Option<V>,
    /// The product is normed before it joins.
    pub(crate) post_norm: Option<V>,
}

/// Makes one kind of matrices and vectors of another.
pub(crate) trait Convert<M, V> {
    type Matrix;
    type Vector;
    type Error;

    fn matrix(&mut self, from: &M) -> Result<Self::Matrix, Self::Error>;

    fn vector(&mut self, from: &V) -> Result<Self::Vector, Self::Error>;
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
            output_norm: by.vector(&self.output_norm)?,
            output: self.output.as_ref().map(|output| by.matrix(output)).transpose()?,
        })
    }
}

impl<M, V> LayerWeights<M, V> {
    fn convert<C: Convert<M, V>>(&self, by: &mut C) -> Result<LayerWeights<C::Matrix, C::Vector>, C::Error> {
        let AttentionWeights { norm, q, k, v, q_norm, k_norm, sinks, end } = &self.attention;
        let attention = AttentionWeights {
            norm: optional(norm, by)?,
            q: q.convert(by)?,
            k: k.convert(by)?,
            v: v.convert(by)?,
            q_norm: optional(q_norm, by)?,
            k_norm: optional(k_norm, by)?,
            sinks: optional(sinks, by)?,
            end: end.convert(by)?,
        };
        Ok(LayerWeights { attention, feed_forward: self.feed_forward.convert(by)? })
    }
}

impl<M, V> FeedForwardWeights<M, V> {
    fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<FeedForwardWeights<C::Matrix, C::Vector>, C::Error> {
        Ok(match self {
            FeedForwardWeights::Gated(gated) => FeedForwardWeights::Gated(gated.convert(by)?),
            FeedForwardWeights::Experts(experts) => FeedForwardWeights::Experts(experts.convert(by)?),
        })
    }

    /// The norm in front of the branch.
    pub(crate) fn norm_mut(&mut self) -> &mut Option<V> {
        match self {
            FeedForwardWeights::Gated(gated) => &mut gated.norm,
            FeedForwardWeights::Experts(experts) => &mut experts.norm,
        }
    }

    /// The norm behind the branch.
    pub(crate) fn post_norm_mut(&mut self) -> &mut Option<V> {
        match self {
            FeedForwardWeights::Gated(gated) => &mut gated.end.post_norm,
            FeedForwardWeights::Experts(experts) => &mut experts.post_norm,
        }
    }
}

impl<M, V> GatedWeights<M, V> {
    fn convert<C: Convert<M, V>>(&self, by: &mut C) -> Result<GatedWeights<C::Matrix, C::Vector>, C::Error> {
        let GatedWeights { norm, gate, up, end } = self;
        Ok(GatedWeights {
            norm: optional(norm, by)?,
            gate: by.matrix(gate)?,
            up: by.matrix(up)?,
            end: end.convert(by)?,
        })
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

impl<M, V> Projection<M, V> {
    fn convert<C: Convert<M, V>>(&self, by: &mut C) -> Result<Projection<C::Matrix, C::Vector>, C::Error> {
        Ok(Projection { matrix: by.matrix(&self.matrix)?, bias: optional(&self.bias, by)? })
    }
}

impl<M, V> BranchEnd<M, V> {
    fn convert<C: Convert<M, V>>(&self, by: &mut C) -> Result<BranchEnd<C::Matrix, C::Vector>, C::Error> {
        let BranchEnd { matrix, bias, post_norm } = self;
        let matrix = by.matrix(matrix)?;
        Ok(BranchEnd { matrix, bias: optional(bias, by)?, post_norm: optional(post_norm, by)? })
    }
}

fn optional<M, V, C: Convert<M, V>>(vector: &Option<V>, by: &mut C) -> Result<Option<C::Vector>, C::Error> {
    vector.as_ref().map(|vector| by.vector(vector)).transpose()
}
