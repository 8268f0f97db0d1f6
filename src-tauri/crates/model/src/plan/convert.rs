//! The walk through all places of a model's weights.

/// Makes one kind of matrices and vectors of another.
pub(crate) trait Convert<M, V> {
    type Matrix;
    type Vector;
    type Error;

    fn matrix(&mut self, from: &M) -> Result<Self::Matrix, Self::Error>;

    fn vector(&mut self, from: &V) -> Result<Self::Vector, Self::Error>;
}
