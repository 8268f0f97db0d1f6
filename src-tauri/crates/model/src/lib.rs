//! Executes a [`scheduler::Step`] on a device: GGUF weights, the decoder, the KV pool's storage.
//!
//! Hands out a GGUF file's metadata as plain data. It does **not** know requests, HTTP, agents, text, or how KV
//! lies on disk.
//!
//! Read `spec.rs` first (what a model computes), then `decoder.rs` and `layer.rs` (how), then `runner.rs` (the
//! interface). `gguf.rs` and `header.rs` read the file.

pub mod spec;

mod batch;
mod decoder;
mod layer;
mod runner;
mod weights;

mod gpu;
#[cfg(any(test, all(feature = "metal", target_os = "macos")))]
mod portable;

mod error;
mod file;
mod gguf;
mod header;
mod metadata;

#[cfg(test)]
mod dense;
#[cfg(test)]
mod testing;

pub use error::LoadError;
pub use gguf::{Gguf, TensorInfo};
pub use gpu::{Gpu, GpuOptions};
pub use metadata::{Array, Metadata, MetadataError, Strings, Value};
pub use runner::{CpuRunner, LoadOptions, PoolSize, Precision, load, load_open};
pub use spec::ModelSpec;
pub use weights::LoadProgress;
