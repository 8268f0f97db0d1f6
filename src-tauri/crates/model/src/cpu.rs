//! Models on the CPU, by the kernels.

mod backend;
mod experts;
mod latent;
pub(crate) mod load;
mod per_layer;
mod place;
mod texts;
mod weights;

#[cfg(test)]
mod tests;
