//! Models on the CPU, by the kernels.

mod attention;
pub(crate) mod backend;
mod experts;
mod latent;
pub(crate) mod load;
mod per_layer;
pub(crate) mod place;
mod recurrent;
mod texts;
pub(crate) mod weights;

#[cfg(test)]
mod tests;
