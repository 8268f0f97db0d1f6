//! The GPU that models run on: Metal on macOS, in builds with the feature `metal`; elsewhere there is none.

use std::ops::ControlFlow;

use scheduler::KvDtype;

use super::verdict::GpuLoad;
use crate::error::LoadError;
use crate::file::gguf::Gguf;
use crate::options::{GpuOptions, GpuProofOptions, LoadProgress};

/// A GPU of this machine. To be dropped with all runners before the process exits.
pub struct Gpu {
    #[cfg(all(feature = "metal", target_os = "macos"))]
    device: candle_core::Device,
    #[cfg(all(feature = "metal", target_os = "macos"))]
    memory_bytes: u64,
    #[cfg(all(feature = "metal", target_os = "macos"))]
    name: String,
    /// There is no value of this type, so none of `Gpu`.
    #[cfg(not(all(feature = "metal", target_os = "macos")))]
    none: std::convert::Infallible,
}

impl Gpu {
    /// Names what computes, and the revision of its numbers and of how it lays blocks out: KV of one revision means
    /// nothing to another.
    pub const NUMERICS: &str = "metal 1";

    /// Whether the GPU can store KV like this.
    pub fn takes(kv_dtype: KvDtype) -> bool {
        matches!(kv_dtype, KvDtype::F16 | KvDtype::Q8)
    }
}

#[cfg(all(feature = "metal", target_os = "macos"))]
impl Gpu {
    /// The GPU, if there is one.
    ///
    /// # Errors
    /// There is one and it cannot be used; one line.
    pub fn find() -> Result<Option<Gpu>, String> {
        use super::metal;
        use super::one_line::one_line;
        use super::shaders::releasing;
        let found = || -> candle_core::Result<Option<Gpu>> {
            let Some(device) = metal::open()? else { return Ok(None) };
            let memory_bytes = metal::memory_bytes(&device)?;
            let name = metal::name(&device)?;
            Ok(Some(Gpu { device, memory_bytes, name }))
        };
        releasing(found).map_err(|error| one_line(&error))
    }

    /// Bytes that weights and KV may take together: what the system recommends and one buffer can be.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// What the system calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Load the model of an open file; as [`crate::load`]. Where `proof` says how, the GPU proves itself on it. Where it
    /// refuses, the model is gone from it when this returns.
    ///
    /// # Errors
    /// As [`crate::load`], but for what the GPU is the reason of.
    pub fn load(
        self,
        gguf: &Gguf,
        options: &GpuOptions,
        proof: Option<&GpuProofOptions>,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<GpuLoad, LoadError> {
        use super::{load, shaders::releasing, trust::trusted};
        let start = std::time::Instant::now();
        let set_up = |progress: load::Report<'_>| load::runner(gguf, options, &self.device, progress);
        match releasing(|| trusted(set_up, gguf, proof, &|| start.elapsed(), progress)) {
            Ok(Ok((runner, proof))) => Ok(GpuLoad::Serves { runner: Box::new(runner), proof }),
            Ok(Err(fault)) => Ok(GpuLoad::Refused(fault)),
            Err(cause) => Err(cause.in_file(gguf.path())),
        }
    }
}

#[cfg(not(all(feature = "metal", target_os = "macos")))]
impl Gpu {
    /// The GPU, if there is one: not in this build.
    ///
    /// # Errors
    /// None.
    pub fn find() -> Result<Option<Gpu>, String> {
        Ok(None)
    }

    /// Bytes that weights and KV may take together.
    pub fn memory_bytes(&self) -> u64 {
        match self.none {}
    }

    /// What the system calls it.
    pub fn name(&self) -> &str {
        match self.none {}
    }

    /// Load the model of an open file.
    ///
    /// # Errors
    /// Never called: there is no GPU.
    pub fn load(
        self,
        _gguf: &Gguf,
        _options: &GpuOptions,
        _proof: Option<&GpuProofOptions>,
        _progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<GpuLoad, LoadError> {
        match self.none {}
    }
}
