//! Executes a [`scheduler::Step`] on a device: GGUF weights, the decoder, the KV pool's storage. And reads whole texts for
//! their vectors, as a [`scheduler::Embedder`].
//!
//! Hands out a GGUF file's metadata as plain data. It does **not** know requests, HTTP, agents, text, or how KV
//! lies on disk.
//!
//! ```text
//!  file/ ──▶ families/ ──▶ plan/ ──▶ run/ ──▶ cpu/ gpu/
//!  bytes     a file is     what a    the      the operations
//!            understood    model     order    of a device
//!                          is
//! ```
//!
//! Read `plan/model_plan.rs` first (what a model computes), then `run/layer.rs` and `run/decoder.rs` (in which order),
//! then `run/backend.rs` (of what). A new family is a file in `families/`.

mod cpu;
mod error;
mod families;
mod file;
mod gpu;
mod options;
mod plan;
mod run;

#[cfg(test)]
mod testing;

pub use cpu::load::{load, load_embedder, load_open};
pub use error::LoadError;
pub use families::plan_of;
pub use file::gguf::Gguf;
pub use file::header::{TensorInfo, UnknownTensor};
pub use file::metadata::{Array, Metadata, MetadataError, Strings, Value};
pub use file::part_name::PartName;
pub use file::parts::ModelPart;
pub use gpu::able::refusal as gpu_refusal;
pub use gpu::device::Gpu;
pub use gpu::verdict::{GpuFault, GpuFaultKind, GpuLoad, GpuProof};
pub use options::{
    EmbedderOptions, GpuOptions, GpuProofOptions, LoadOptions, LoadProgress, PoolSize, Precision,
};
pub use plan::encoder_plan::{EncoderPlan, ProjectionPlan};
pub use plan::experts::{ExpertFunction, ExpertsPlan};
pub use plan::model_plan::{
    Activation, AttentionPlan, FeedForwardPlan, GatedPlan, KvPlan, LatentPlan, LayerPlan, MixerPlan,
    ModelPlan, NormOver, Temperature, UngatedFunction, UngatedPlan,
};
pub use plan::recurrent::{GatedDeltaPlan, Mamba2Plan, RecurrentPlan, ShortConvPlan};
pub use plan::rope_plan::{LongFactors, RopeFactors, RopePairs, RopePlan, YarnPlan};
pub use run::outline::{EncoderOutline, Outline, outline};
