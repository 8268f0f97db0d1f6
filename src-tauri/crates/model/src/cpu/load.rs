//! Sets a model up on the CPU.

use std::ops::ControlFlow;
use std::path::Path;

use kernels::kv::KvArena;
use kernels::threads::Threads;
use scheduler::{Embedder, KvLayout, ModelRunner};

use super::backend::Cpu;
use super::place::Place;
use super::weights::CpuPack;
use crate::error::{Cause, LoadError};
use crate::families;
use crate::file::gguf::Gguf;
use crate::options::{EmbedderOptions, LoadOptions, LoadProgress};
use crate::run::backend::Backend;
use crate::run::encoder::Encoder;
use crate::run::load::load as load_weights;
use crate::run::pool::{in_pool, n_blocks};
use crate::run::runner::Runner;

/// Load the model at `path`.
///
/// `progress` is called after each tensor, and in between where one is large; when it breaks, loading ends with [`LoadError::Cancelled`].
/// Memory of the pool is given by the system when it is first written.
///
/// # Errors
/// The file cannot be read, is damaged, or is of a kind that is not supported; its tensors do not fit its
/// metadata; the options make no sense; memory is short. Each message is one line that names the file.
pub fn load(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<Box<dyn ModelRunner>, LoadError> {
    let gguf = Gguf::open(path)?;
    load_open(&gguf, options, progress)
}

/// Load the model of a file that is open already; as [`load`].
///
/// # Errors
/// As [`load`].
pub fn load_open(
    gguf: &Gguf,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<Box<dyn ModelRunner>, LoadError> {
    match runner(gguf, options, progress) {
        Ok(runner) => Ok(Box::new(runner)),
        Err(cause) => Err(cause.in_file(gguf.path())),
    }
}

pub(super) fn runner(
    gguf: &Gguf,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<Runner<Cpu>, Cause> {
    if options.n_threads == 0 {
        return Err(Cause::Setup("0 threads".to_owned()));
    }
    let (plan, tensors) = families::read(gguf)?;
    if plan.encoder.is_some() {
        let architecture = plan.architecture;
        return Err(Cause::Unsupported(format!(
            "a {architecture} model gives vectors and continues no text"
        )));
    }
    let layout = KvLayout::new(&plan.cache_spec(), options.block_tokens, options.kv_dtype)
        .map_err(|error| Cause::Setup(error.to_string()))?;
    // The pool comes first: a size that cannot be had costs no packing.
    let n_blocks = n_blocks(&layout, options.pool)?;
    let plan = in_pool(plan, &layout, n_blocks);
    let mut arena =
        KvArena::new(n_blocks, layout.block_bytes).map_err(|error| Cause::Setup(error.to_string()))?;
    let threads = Threads::new(options.n_threads);
    let pack = CpuPack { threads: &threads };
    let weights = std::thread::scope(|scope| {
        scope.spawn(|| arena.take_memory(options.ready_bytes));
        load_weights(gguf, plan.architecture, &tensors, &pack, progress)
    })?;
    let places = Place::in_pool(&plan, &layout);
    let rounding = options.precision.rounding();
    let backend = Cpu::new(&plan, (arena, places), threads, options.isa, rounding);
    Ok(Runner::new(plan, weights, layout, backend))
}

/// Load the model of a file that reads whole texts and gives their vectors; see [`load`].
///
/// # Errors
/// As [`load`], or the model is one that continues texts.
pub fn load_embedder(
    gguf: &Gguf,
    options: &EmbedderOptions,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<Box<dyn Embedder>, LoadError> {
    match encoder(gguf, options, progress) {
        Ok(encoder) => Ok(Box::new(encoder)),
        Err(cause) => Err(cause.in_file(gguf.path())),
    }
}

pub(super) fn encoder(
    gguf: &Gguf,
    options: &EmbedderOptions,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<Encoder<Cpu>, Cause> {
    if options.n_threads == 0 {
        return Err(Cause::Setup("0 threads".to_owned()));
    }
    let (plan, tensors) = families::read(gguf)?;
    let Some(spec) = plan.embed_spec() else {
        let architecture = plan.architecture;
        return Err(Cause::Unsupported(format!(
            "a {architecture} model continues texts and gives no vectors"
        )));
    };
    let plan = plan.in_context(spec.max_tokens);
    let places = Place::for_texts(&plan);
    // For a chunk of the shortest texts; a long one has it grow.
    let block_bytes = places.iter().find_map(Place::kv).map_or(0, |place| place.kv.block_bytes);
    let arena =
        KvArena::new(Cpu::CHUNK_TOKENS, block_bytes).map_err(|error| Cause::Setup(error.to_string()))?;
    let threads = Threads::new(options.n_threads);
    let pack = CpuPack { threads: &threads };
    let weights = load_weights(gguf, plan.architecture, &tensors, &pack, progress)?;
    let rounding = options.precision.rounding();
    let backend = Cpu::new(&plan, (arena, places), threads, options.isa, rounding);
    Ok(Encoder::new(plan, spec, weights, backend))
}
