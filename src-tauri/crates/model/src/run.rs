//! How a model runs: the order of a layer's operations, once, over what a [`backend::Backend`] computes. A decoder steps
//! and an encoder reads whole texts, through the same layers.

pub(crate) mod backend;
pub(crate) mod batch;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod encoder_memory;
pub(crate) mod layer;
pub(crate) mod load;
pub(crate) mod outline;
pub(crate) mod pool;
pub(crate) mod rotations;
pub(crate) mod runner;
mod states;
pub(crate) mod texts;
