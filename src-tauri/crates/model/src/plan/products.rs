//! The products that branches are made of.

use super::convert::Convert;

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

impl<M, V> Projection<M, V> {
    /// As [`ModelWeights::convert`].
    ///
    /// [`ModelWeights::convert`]: super::weights::ModelWeights::convert
    pub(super) fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<Projection<C::Matrix, C::Vector>, C::Error> {
        Ok(Projection { matrix: by.matrix(&self.matrix)?, bias: optional(&self.bias, by)? })
    }
}

impl<M, V> BranchEnd<M, V> {
    /// As [`ModelWeights::convert`].
    ///
    /// [`ModelWeights::convert`]: super::weights::ModelWeights::convert
    pub(super) fn convert<C: Convert<M, V>>(
        &self,
        by: &mut C,
    ) -> Result<BranchEnd<C::Matrix, C::Vector>, C::Error> {
        let BranchEnd { matrix, bias, post_norm } = self;
        let matrix = by.matrix(matrix)?;
        Ok(BranchEnd { matrix, bias: optional(bias, by)?, post_norm: optional(post_norm, by)? })
    }
}

/// What `by` makes of a vector, if there is one.
pub(super) fn optional<M, V, C: Convert<M, V>>(
    vector: &Option<V>,
    by: &mut C,
) -> Result<Option<C::Vector>, C::Error> {
    vector.as_ref().map(|vector| by.vector(vector)).transpose()
}
