//! Models on the CPU, by the kernels.

mod backend;
mod experts;
pub(crate) mod load;
mod weights;

#[cfg(test)]
mod tests;
