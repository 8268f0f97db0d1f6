//! The tensors of one layer, by their names in it.

use std::ops::Range;

use kernels::ggml::GgmlType;

use crate::file::gguf::Gguf;
use crate::plan::products::{BranchEnd, Projection};
use crate::plan::tensor_list::{TensorPlace, ValueOrder};

/// Names the tensors of one layer.
pub(super) struct LayerNames<'a> {
    layer_idx: usize,
    gguf: &'a Gguf,
}

impl<'a> LayerNames<'a> {
    /// Of the layer of this index.
    pub(super) fn new(layer_idx: usize, gguf: &'a Gguf) -> LayerNames<'a> {
        LayerNames { layer_idx, gguf }
    }

    /// The matrix that takes `n_in` values to `n_out`.
    pub(super) fn matrix(&self, name: &str, n_in: usize, n_out: usize) -> TensorPlace {
        self.place(name, vec![n_in, n_out])
    }

    pub(super) fn vector(&self, name: &str, n_values: usize) -> TensorPlace {
        self.place(name, vec![n_values])
    }

    /// The taps of a convolution of each of `n_channels` by itself, which a file has channel by channel.
    pub(super) fn taps(&self, name: &str, n_taps: usize, n_channels: usize) -> TensorPlace {
        TensorPlace { order: ValueOrder::Transposed, ..self.place(name, vec![n_taps, n_channels]) }
    }

    /// A vector that the file has in two dimensions.
    pub(super) fn table(&self, name: &str, shape: [usize; 2]) -> TensorPlace {
        self.place(name, shape.to_vec())
    }

    /// The vector, where the file has it.
    pub(super) fn vector_if_there(&self, name: &str, n_values: usize) -> Option<TensorPlace> {
        self.has(name).then(|| self.vector(name, n_values))
    }

    /// Rows of as many values, where the file has them.
    pub(super) fn table_if_there(&self, name: &str, shape: [usize; 2]) -> Option<TensorPlace> {
        self.has(name).then(|| self.table(name, shape))
    }

    /// The scales of a tensor's `n` matrices, where the file has them; those beside a tensor in NVFP4 belong to its values.
    pub(super) fn scales_if_there(&self, name: &str, n: usize) -> Option<TensorPlace> {
        let weights = self.gguf.tensor(&self.name(&format!("{name}.weight")));
        let is_part = weights.is_some_and(|weights| weights.ty == GgmlType::NVFP4);
        self.vector_if_there(&format!("{name}.scale"), n).filter(|_| !is_part)
    }

    /// Rows `rows` of each of the matrices that a tensor of shape `[n_in, n_rows, n]` stacks. Where the file has no such
    /// tensor it is one place, so that what a file merely claims takes no memory.
    pub(super) fn stacked(&self, name: &str, shape: [usize; 3], rows: Range<usize>) -> Vec<TensorPlace> {
        let whole = self.place(name, shape.to_vec());
        let [_, n_rows, n] = shape;
        if self.gguf.tensor_of(&whole.name, &whole.shape).is_err() {
            return vec![whole];
        }
        let part = |i: usize| Some(i * n_rows + rows.start..i * n_rows + rows.end);
        (0..n).map(|i| TensorPlace { part: part(i), ..whole.clone() }).collect()
    }

    /// Whether the file has a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.gguf.tensor(&self.name(name)).is_some()
    }

    /// The product with a matrix, and its bias where the file has one.
    pub(super) fn projection(
        &self,
        name: &str,
        n_in: usize,
        n_out: usize,
    ) -> Projection<TensorPlace, TensorPlace> {
        Projection {
            matrix: self.matrix(&format!("{name}.weight"), n_in, n_out),
            bias: self.vector_if_there(&format!("{name}.bias"), n_out),
        }
    }

    /// The last product of a branch, and its bias where the file has one.
    pub(super) fn end(&self, name: &str, n_in: usize, n_out: usize) -> BranchEnd<TensorPlace, TensorPlace> {
        let Projection { matrix, bias } = self.projection(name, n_in, n_out);
        BranchEnd { matrix, bias, post_norm: None }
    }

    /// Matrices of `n_outs` rows, which are one tensor, one after the other.
    pub(super) fn parts<const N: usize>(
        &self,
        name: &str,
        n_in: usize,
        n_outs: [usize; N],
    ) -> [TensorPlace; N] {
        let whole = self.matrix(name, n_in, n_outs.iter().sum());
        let mut first = 0;
        n_outs.map(|n_out| {
            let part = Some(first..first + n_out);
            first += n_out;
            TensorPlace { part, ..whole.clone() }
        })
    }

    /// Products of the same rows with matrices as [`LayerNames::parts`], whose biases are one tensor too.
    pub(super) fn fused<const N: usize>(
        &self,
        name: &str,
        n_in: usize,
        n_outs: [usize; N],
    ) -> [Projection<TensorPlace, TensorPlace>; N] {
        let bias = self.vector_if_there(&format!("{name}.bias"), n_outs.iter().sum());
        self.parts(&format!("{name}.weight"), n_in, n_outs).map(|matrix| {
            let bias = bias.clone().map(|bias| TensorPlace { part: matrix.part.clone(), ..bias });
            Projection { matrix, bias }
        })
    }

    fn name(&self, name: &str) -> String {
        format!("blk.{}.{name}", self.layer_idx)
    }

    fn place(&self, name: &str, shape: Vec<usize>) -> TensorPlace {
        TensorPlace { name: self.name(name), shape, part: None, order: ValueOrder::AsStored }
    }
}
