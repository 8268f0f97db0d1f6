//! The decoder in candle's operations: what runs on a GPU, and the same code on the CPU, where tests hold it against
//! the kernels.
//!
//! ```text
//!                CpuRunner                          DeviceRunner (this folder)
//!  weights       packed tiles                       candle's quantised tensors on the device
//!  pool          mapped memory, read in place       one buffer on the device
//!  attention     paged, fused                       gather by block table, then dense, or a fused kernel of candle's
//!  shared        spec, file, checks of a step, its layout in chunks, rotations
//! ```
//!
//! Read `decoder.rs` first. What the device does to the pool and between candle's operations is in `kv.rs` and
//! `ops.rs`: each operation has a form for the CPU, which tests run, and one for Metal.
//! Bits differ from the kernels': sums run in another order. How far is held by `tests.rs`.

mod attention;
mod decoder;
mod kv;
mod ops;
mod sdpa;
mod shaders;
mod tiles;
mod weights;

#[cfg(all(feature = "metal", target_os = "macos"))]
pub(crate) mod metal;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use scheduler::{BlockId, KvLayout, Logits, ModelCacheSpec, ModelRunner, RunError, Step};

use crate::batch::{self, Batch, FlatStep};
use crate::error::Cause;
use crate::gguf::Gguf;
use crate::gpu::GpuOptions;
use crate::runner::{check_block, make_room, n_blocks};
use crate::spec::ModelSpec;
use crate::weights::{LoadProgress, ModelWeights, Pack};

use decoder::Decoder;
use kv::{KvFormat, KvPool};
use shaders::Shaders;
pub(crate) use shaders::releasing;
use weights::{DevicePack, Matrix};

/// Tokens that go through the layers together: what bounds the memory of a step.
const CHUNK_TOKENS: usize = 512;

/// Runs steps on a candle device.
///
/// One thread owns it, and every call leaves the device idle: no buffer of a step outlives the step, and blocks can
/// be read at once. Fields are dropped in their order, so what lies on the device goes before the device.
pub(crate) struct DeviceRunner {
    decoder: Decoder,
    pool: KvPool,
    cache_spec: ModelCacheSpec,
    layout: KvLayout,
    flat: FlatStep,
    chunk_tokens: usize,
    device: Device,
}

impl DeviceRunner {
    pub(crate) fn new(
        gguf: &Gguf,
        options: &GpuOptions,
        device: Device,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<DeviceRunner, Cause> {
        let pack = DevicePack { device: &device };
        DeviceRunner::with_pack(gguf, options, &device, &pack, progress)
    }

    /// As `new`, with weights in the form that `pack` gives them.
    fn with_pack(
        gguf: &Gguf,
        options: &GpuOptions,
        device: &Device,
        pack: &impl Pack<Matrix = Matrix, Vector = Tensor>,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<DeviceRunner, Cause> {
        let setup = |error: candle_core::Error| Cause::Setup(one_line(&error));
        let spec = ModelSpec::read(gguf)?;
        let cache_spec = spec.cache_spec();
        let layout = KvLayout::new(&cache_spec, options.block_tokens, options.kv_dtype)
            .map_err(|error| Cause::Setup(error.to_string()))?;
        let n_blocks = n_blocks(&layout, options.pool)?;
        let format = KvFormat::of(options.kv_dtype)?;
        let shaders = Shaders::new(device).map_err(setup)?;
        // The pool comes first: a size that cannot be had costs no upload.
        let pool = KvPool::new(device, shaders.clone(), n_blocks, &layout).map_err(setup)?;
        let weights = ModelWeights::load(gguf, &spec, pack, progress)?;
        let decoder = Decoder::new(spec, weights, &layout, format, shaders, device.clone());
        device.synchronize().map_err(setup)?;
        let flat = FlatStep::default();
        let (device, chunk_tokens) = (device.clone(), CHUNK_TOKENS);
        Ok(DeviceRunner { decoder, pool, cache_spec, layout, flat, chunk_tokens, device })
    }

    /// Do `work` and wait until the device has done it. What the system's libraries leave to be released later is
    /// released here: a step's memory does not grow into the next.
    fn on_device<T>(
        &mut self,
        work: impl FnOnce(&mut DeviceRunner) -> candle_core::Result<T>,
    ) -> Result<T, RunError> {
        let done = releasing(|| {
            let done = work(self);
            // Also after an error, so that nothing of the failed step is still running.
            let idle = self.device.synchronize();
            done.and_then(|value| idle.map(|()| value))
        });
        done.map_err(|error| RunError::Device(one_line(&error)))
    }

    fn check_block(&self, block: BlockId, n_bytes: usize) -> Result<(), RunError> {
        check_block(block, n_bytes, self.pool.n_blocks(), self.layout.block_bytes)
    }
}

impl ModelRunner for DeviceRunner {
    fn cache_spec(&self) -> &ModelCacheSpec {
        &self.cache_spec
    }

    fn layout(&self) -> &KvLayout {
        &self.layout
    }

    fn n_blocks(&self) -> usize {
        self.pool.n_blocks()
    }

    fn run(&mut self, step: &Step, out: &mut Logits) -> Result<(), RunError> {
        batch::check(step, &self.cache_spec, &self.layout, self.pool.n_blocks())?;
        let mut flat = std::mem::take(&mut self.flat);
        let batch = Batch::new(step, &self.layout, &mut flat, self.chunk_tokens);
        make_room(step, batch.wanted.len(), self.cache_spec.n_vocab, out)?;
        let done = self.on_device(|runner| {
            for copy in &step.copies {
                runner.pool.copy_block(copy.from.idx(), copy.to.idx())?;
            }
            runner.decoder.forward(&runner.pool, &batch, &mut out.values)
        });
        self.flat = flat;
        done
    }

    fn export_block(&mut self, block: BlockId, out: &mut [u8]) -> Result<(), RunError> {
        self.check_block(block, out.len())?;
        self.on_device(|runner| runner.pool.read_block(block.idx(), out))
    }

    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), RunError> {
        self.check_block(block, bytes.len())?;
        self.on_device(|runner| runner.pool.write_block(block.idx(), bytes))
    }
}

impl Drop for DeviceRunner {
    fn drop(&mut self) {
        // A buffer must not go while the device uses it; that the device has failed is known by then.
        let _ = releasing(|| self.device.synchronize());
    }
}

/// candle's errors may carry a backtrace; the first line says what happened.
pub(crate) fn one_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
