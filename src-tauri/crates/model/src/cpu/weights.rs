//! Weights packed for the CPU's kernels.

use kernels::threads::Threads;
use kernels::weights::Weights;

use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::run::load::{Pack, StoredMatrix, not_packed, scale_beside};

/// Packs on the workers that will multiply.
pub(crate) struct CpuPack<'a> {
    pub(crate) threads: &'a Threads,
}

impl Pack for CpuPack<'_> {
    type Matrix = Weights;
    type Vector = Vec<f32>;

    fn matrix(
        &self,
        gguf: &Gguf,
        stored: &StoredMatrix<'_>,
        done: &mut dyn FnMut(usize) -> Result<(), Cause>,
    ) -> Result<Weights, Cause> {
        let StoredMatrix { tensor, n_out, n_in, ref bytes } = *stored;
        let shape = (tensor.ty, n_out, n_in);
        // Each thread reads what it packs: there is never a second copy of a whole tensor.
        let read = |offset: usize, out: &mut [u8]| gguf.read_part(tensor, bytes.start + offset, out);
        let packed = Weights::pack_from(self.threads, shape, bytes.len(), read, done)?;
        let packed = packed.map_err(|error| not_packed(tensor, &error.to_string()))?;
        Ok(packed.scaled(scale_beside(gguf, stored)?))
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>, String> {
        Ok(values)
    }
}
