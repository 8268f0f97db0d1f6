//! Sets a model up on a device.

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use scheduler::KvLayout;

use super::able::refusal;
use super::backend::GpuBackend;
use super::kv_pool::KvPool;
use super::one_line::one_line;
use super::part::KvFormat;
use super::shaders::Shaders;
use super::weights::{DevicePack, Matrix};
use crate::error::Cause;
use crate::families;
use crate::file::gguf::Gguf;
use crate::options::{GpuOptions, LoadProgress};
use crate::plan::model_plan::ModelPlan;
use crate::plan::weights::ModelWeights;
use crate::run::load::{Pack, load as load_weights};
use crate::run::pool::{in_pool, n_blocks};
use crate::run::runner::Runner;

/// Is told how far a load is; an answer to break off ends it.
pub(super) type Report<'a> = &'a mut dyn FnMut(LoadProgress) -> ControlFlow<()>;

/// A model on a device.
pub(super) struct SetUp {
    pub(super) plan: ModelPlan,
    pub(super) weights: ModelWeights<Matrix, Tensor>,
    pub(super) layout: KvLayout,
    pub(super) backend: GpuBackend,
}

/// Put the model on `device`, ready to run.
pub(super) fn runner(
    gguf: &Gguf,
    options: &GpuOptions,
    device: &Device,
    progress: Report<'_>,
) -> Result<Runner<GpuBackend>, Cause> {
    let pack = DevicePack { device };
    let SetUp { plan, weights, layout, backend } = set_up(gguf, options, device, &pack, progress)?;
    Ok(Runner::new(plan, weights, layout, backend))
}

/// Put the model on `device`, with weights in the form that `pack` gives them.
pub(super) fn set_up(
    gguf: &Gguf,
    options: &GpuOptions,
    device: &Device,
    pack: &impl Pack<Matrix = Matrix, Vector = Tensor>,
    progress: Report<'_>,
) -> Result<SetUp, Cause> {
    let setup = |error: candle_core::Error| Cause::Setup(one_line(&error));
    let (plan, tensors) = families::read(gguf)?;
    // What it lacks is known before anything is put up.
    refusal(&plan, gguf).map_or(Ok(()), |reason| Err(Cause::Setup(reason)))?;
    let layout = KvLayout::new(&plan.cache_spec(), options.block_tokens, options.kv_dtype)
        .map_err(|error| Cause::Setup(error.to_string()))?;
    let n_blocks = n_blocks(&layout, options.pool)?;
    let plan = in_pool(plan, &layout, n_blocks);
    let format = KvFormat::of(options.kv_dtype)?;
    let shaders = Shaders::new(device).map_err(setup)?;
    // The pool comes first: a size that cannot be had costs no upload.
    let pool = KvPool::new(device, shaders.clone(), n_blocks, &layout).map_err(setup)?;
    let weights = load_weights(gguf, plan.architecture, &tensors, pack, progress)?;
    let backend = GpuBackend::new(&plan, &layout, format, pool, shaders, device.clone());
    device.synchronize().map_err(setup)?;
    Ok(SetUp { plan, weights, layout, backend })
}
