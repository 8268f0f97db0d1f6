//! Models on the CPU, by the kernels.

pub(crate) mod backend;
mod experts;
mod latent;
pub(crate) mod load;
mod per_layer;
pub(crate) mod place;
mod texts;
pub(crate) mod weights;

#[cfg(test)]
mod tests;
