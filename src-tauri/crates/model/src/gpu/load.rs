//! Sets a model up on a device.

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use scheduler::KvLayout;

use super::backend::GpuBackend;
use super::kv_pool::KvPool;
use super::one_line::one_line;
use super::part::KvFormat;
use super::shaders::Shaders;
use super::weights::{DevicePack, Matrix, check_types};
use crate::error::Cause;
use crate::families;
use crate::file::gguf::Gguf;
use crate::options::{GpuOptions, LoadProgress};
use crate::run::load::{Pack, load as load_weights};
use crate::run::pool::n_blocks;
use crate::run::runner::Runner;

pub(super) fn runner(
    gguf: &Gguf,
    options: &GpuOptions,
    device: &Device,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<Runner<GpuBackend>, Cause> {
    let pack = DevicePack { device };
    runner_with(gguf, options, device, &pack, progress)
}

/// As `runner`, with weights in the form that `pack` gives them.
pub(super) fn runner_with(
    gguf: &Gguf,
    options: &GpuOptions,
    device: &Device,
    pack: &impl Pack<Matrix = Matrix, Vector = Tensor>,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<Runner<GpuBackend>, Cause> {
    let setup = |error: candle_core::Error| Cause::Setup(one_line(&error));
    let (plan, tensors) = families::read(gguf)?;
    check_types(gguf)?;
    let layout = KvLayout::new(&plan.cache_spec(), options.block_tokens, options.kv_dtype)
        .map_err(|error| Cause::Setup(error.to_string()))?;
    let n_blocks = n_blocks(&layout, options.pool)?;
    let format = KvFormat::of(options.kv_dtype)?;
    let shaders = Shaders::new(device).map_err(setup)?;
    // The pool comes first: a size that cannot be had costs no upload.
    let pool = KvPool::new(device, shaders.clone(), n_blocks, &layout).map_err(setup)?;
    let weights = load_weights(gguf, plan.architecture, &tensors, pack, progress)?;
    let backend = GpuBackend::new(&plan, &layout, format, pool, shaders, device.clone());
    device.synchronize().map_err(setup)?;
    Ok(Runner::new(plan, weights, layout, backend))
}
