//! What only encoders multiply with and add, each in its place.

use super::convert::Convert;

/// What an encoder's stream begins with, beside the embeddings of its tokens.
pub(crate) struct EntryWeights<M, V> {
    /// The vector of the first of the types that tokens may have: a text here has no second part.
    pub(crate) token_type: Option<V>,
    /// A vector for each position, where positions are learnt.
    pub(crate) positions: Option<M>,
    pub(crate) norm: LayerNormWeights<V>,
}

/// A layer norm.
pub(crate) struct LayerNormWeights<V> {
    pub(crate) weight: V,
    pub(crate) bias: V,
}

/// Norms of the stream itself, behind each branch that has joined it.
pub(crate) struct StreamNorms<V> {
    pub(crate) mixer: LayerNormWeights<V>,
    pub(crate) feed_forward: LayerNormWeights<V>,
}

/// What makes a text's vector of the stream.
pub(crate) struct VectorWeights<M, V> {
    /// In front of all; absent where the layers end with one.
    pub(crate) norm: Option<V>,
    /// Behind the pooling.
    pub(crate) projections: Vec<M>,
}

impl<M, V> EntryWeights<M, V> {
    pub(super) fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<EntryWeights<C::Matrix, C::Vector>, C::Error> {
        let EntryWeights { token_type, positions, norm } = self;
        Ok(EntryWeights {
            token_type: token_type.as_ref().map(|vector| by.vector(vector)).transpose()?,
            positions: positions.as_ref().map(|matrix| by.matrix(matrix)).transpose()?,
            norm: norm.convert(by)?,
        })
    }
}

impl<V> LayerNormWeights<V> {
    fn convert<M, C: Convert<M, V>>(&self, by: &mut C) -> Result<LayerNormWeights<C::Vector>, C::Error> {
        Ok(LayerNormWeights { weight: by.vector(&self.weight)?, bias: by.vector(&self.bias)? })
    }
}

impl<V> StreamNorms<V> {
    pub(super) fn convert<M, C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<StreamNorms<C::Vector>, C::Error> {
        Ok(StreamNorms { mixer: self.mixer.convert(by)?, feed_forward: self.feed_forward.convert(by)? })
    }
}

impl<M, V> VectorWeights<M, V> {
    pub(super) fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<VectorWeights<C::Matrix, C::Vector>, C::Error> {
        Ok(VectorWeights {
            norm: self.norm.as_ref().map(|norm| by.vector(norm)).transpose()?,
            projections: self.projections.iter().map(|matrix| by.matrix(matrix)).collect::<Result<_, _>>()?,
        })
    }
}
