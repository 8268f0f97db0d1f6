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
    pub(crate) end: BranchEnd<M, V>,
}

/// What a token goes through by itself.
pub(crate) enum FeedForwardWeights<M, V> {
    Gated(GatedWeights<M, V>),
}

/// A gated feed-forward with the norm in front of it, if there is one.
pub(crate) struct GatedWeights<M, V> {
    pub(crate) norm: Option<V>,
    pub(crate) gate: Projection<M, V>,
    pub(crate) up: Projection<M, V>,
    pub(crate) end: BranchEnd<M, V>,
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
        let AttentionWeights { norm, q, k, v, q_norm, k_norm, end } = &self.attention;
        let attention = AttentionWeights {
            norm: optional(norm, by)?,
            q: q.convert(by)?,
            k: k.convert(by)?,
            v: v.convert(by)?,
            q_norm: optional(q_norm, by)?,
            k_norm: optional(k_norm, by)?,
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
        })
    }

    /// The last product of the branch.
    pub(crate) fn end(&self) -> &BranchEnd<M, V> {
        match self {
            FeedForwardWeights::Gated(gated) => &gated.end,
        }
    }

    /// As [`FeedForwardWeights::end`].
    pub(crate) fn end_mut(&mut self) -> &mut BranchEnd<M, V> {
        match self {
            FeedForwardWeights::Gated(gated) => &mut gated.end,
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
