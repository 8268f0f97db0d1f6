//! Models on the CPU, by the kernels.

mod backend;
pub(crate) mod load;
mod weights;

#[cfg(test)]
mod tests;
