//! Loads a GGUF file for the engine: weights and pool from `model`, vocabulary and chat template from `text`.
//!
//! A chat template is tried with one plain message: one that fails is said in the log, chats say whose fault it is,
//! and completions work.

use std::fmt::Display;
use std::fs::Metadata;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use engine::{
    Failure, FailureKind, LoadDesk, LoadProgress, Loaded, ModelCard, ModelLoader, ModelName, Needs, PoolWish,
    WorkerRunner,
};
use kernels::isa::Isa;
use model::{Gguf, Gpu, GpuOptions, LoadError, LoadOptions, PoolSize, Precision, RopeFactors};
use scheduler::footprint::Footprint;
use scheduler::{KvDtype, KvLayout, ModelCacheSpec, ModelRunner};
use server::RenderWorkers;
use text::{TextError, TextModel};

use crate::device::{self, Choice};
use crate::memory::RESERVE_BYTES;
use crate::model_digest::{self, DigestList};
use crate::model_file::{alias_of, name_of};
use crate::recommended_sampling::recommended_sampling;
use crate::settings::Settings;
use crate::settings::values::{Amount, Device, Kernels};
use crate::text_metadata::text_metadata;

/// Memory of the pool that is taken while the model loads at most, so that what comes back from the disk need not wait
/// for it; more is taken when it is needed.
const MAX_READY_BYTES: u64 = 512 << 20;

/// One model file and how it is to be loaded. Loading again starts from the file.
pub(crate) struct GgufLoader {
    path: PathBuf,
    digests: DigestList,
    device: Device,
    n_threads: usize,
    isa: Isa,
    block_tokens: usize,
    kv_dtype: KvDtype,
    precision: Precision,
    kv_pool: Amount<u64>,
    max_batch: usize,
    /// Where the chat template is tried.
    render_workers: Arc<RenderWorkers>,
}

impl GgufLoader {
    /// Load `path` as the settings say.
    ///
    /// # Errors
    /// This machine does not have the device or the processor's kernels that were asked for.
    pub(crate) fn new(
        settings: &Settings,
        path: PathBuf,
        render_workers: Arc<RenderWorkers>,
    ) -> Result<GgufLoader, String> {
        let isa = match &settings.kernels {
            Kernels::Auto => Isa::detect(),
            Kernels::Named(name) => Isa::from_name(name).map_err(|error| format!("kernels: {error}"))?,
        };
        // Looked for now, so that a GPU that cannot be had is said at once; it is opened for each load.
        device::choose(settings.device, settings.kv_dtype)?;
        let n_threads = match settings.threads {
            Amount::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Amount::Fixed(n) => n,
        };
        Ok(GgufLoader {
            path,
            digests: DigestList::in_folder(&settings.folders.data),
            device: settings.device,
            n_threads,
            isa,
            block_tokens: settings.block_tokens,
            kv_dtype: settings.kv_dtype,
            precision: settings.precision,
            kv_pool: settings.kv_pool,
            max_batch: settings.max_batch,
            render_workers,
        })
    }

    /// As [`GgufLoader::new`], of a model that is trusted: its chats are rendered in this process.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn trusting(settings: &Settings, path: PathBuf) -> Result<GgufLoader, String> {
        GgufLoader::new(settings, path, Arc::new(RenderWorkers::in_this_process()))
    }

    /// What the model needs of memory: a pool as set, or one for as many contexts of full length as run at a time.
    fn needs(&self, gguf: &Gguf, layout: &KvLayout, max_context: usize, gpu: Option<&Gpu>) -> Needs {
        let footprint = Footprint::new(layout);
        let sequence_bytes = footprint.alone(max_context) as u64 * layout.block_bytes as u64;
        Needs {
            weights_bytes: gguf.file_bytes(),
            least_pool_bytes: footprint.n_groups() as u64 * layout.block_bytes as u64,
            pool: match self.kv_pool {
                Amount::Fixed(bytes) => PoolWish::Fixed(bytes),
                Amount::Auto => PoolWish::AtMost(sequence_bytes.saturating_mul(self.max_batch as u64)),
            },
            device_bytes: gpu.map(|gpu| gpu.memory_bytes().saturating_sub(RESERVE_BYTES)),
        }
    }

    /// The digest of the opened file: remembered, or computed and remembered. `seen` is what the path led to before it
    /// was opened: when it still does, that is the file which was opened.
    ///
    /// # Errors
    /// The file cannot be read to its end.
    fn digest(&self, gguf: &Gguf, seen: Option<Metadata>) -> Result<[u8; 32], LoadError> {
        let is_same = |seen: &Metadata| {
            std::fs::metadata(&self.path).is_ok_and(|now| model_digest::is_same_file(seen, &now))
        };
        let seen = seen.filter(is_same);
        if let Some(known) = seen.as_ref().and_then(|file| self.digests.find(file)) {
            return Ok(known);
        }
        let digest = gguf.digest()?;
        if let Some(file) = seen.filter(is_same)
            && let Err(error) = self.digests.remember(&file, &digest)
        {
            tracing::warn!(%error, "the model's digest is not remembered and will be computed again");
        }
        Ok(digest)
    }

    /// What must be the same for KV to be the same: weights, KV format, block size, the cut of layers into blocks, what
    /// computes and how exactly, and by which factors keys turn where a model has two sets of them.
    ///
    /// Of layers that are all alike there is one cut, which goes without saying.
    fn fingerprint(
        &self,
        weights: &[u8; 32],
        (spec, layout): (&ModelCacheSpec, &KvLayout),
        computes: &str,
        factors: Option<RopeFactors>,
    ) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("samovar model fingerprint 1");
        hasher.update(weights);
        hasher.update(self.kv_dtype.name().as_bytes());
        hasher.update(&(self.block_tokens as u64).to_le_bytes());
        hasher.update(computes.as_bytes());
        hasher.update(self.precision.name().as_bytes());
        hasher.update(&kernels::NUMERICS_REV.to_le_bytes());
        if !spec.is_uniform() {
            hasher.update(layout.description().as_bytes());
        }
        hasher.update(factors.map_or("", RopeFactors::name).as_bytes());
        *hasher.finalize().as_bytes()
    }
}

impl GgufLoader {
    /// The GPU, where it is to compute.
    fn gpu(&self) -> Result<Option<Gpu>, String> {
        match device::choose(self.device, self.kv_dtype)? {
            Choice::Gpu(gpu) => Ok(Some(gpu)),
            Choice::Cpu { because: None } => Ok(None),
            Choice::Cpu { because: Some(because) } => {
                tracing::warn!("the CPU computes: {because}");
                Ok(None)
            }
        }
    }

    /// The runner, on the GPU if there is one, and the name of what computes.
    fn load_on(
        &self,
        gpu: Option<Gpu>,
        gguf: &Gguf,
        pool: PoolSize,
        ready_bytes: u64,
        progress: &mut dyn FnMut(model::LoadProgress) -> ControlFlow<()>,
    ) -> Result<(Box<dyn ModelRunner>, &'static str), LoadError> {
        let GgufLoader { block_tokens, kv_dtype, .. } = *self;
        if let Some(gpu) = gpu {
            let options = GpuOptions { block_tokens, kv_dtype, pool };
            match gpu.load(gguf, &options, progress) {
                Ok(runner) => {
                    // The engine thread has other models to step while the GPU computes.
                    let setup = |error: std::io::Error| LoadError::Setup {
                        path: self.path.clone(),
                        cause: format!("no thread for the GPU: {error}"),
                    };
                    return Ok((Box::new(WorkerRunner::new(runner).map_err(setup)?), Gpu::NUMERICS));
                }
                // What the GPU cannot set up, the CPU may.
                Err(LoadError::Setup { cause, .. }) if self.device == Device::Auto => {
                    tracing::warn!("the CPU computes: the GPU cannot: {cause}");
                }
                Err(error) => return Err(error),
            }
        }
        let GgufLoader { n_threads, isa, precision, .. } = *self;
        let options = LoadOptions { n_threads, isa, block_tokens, kv_dtype, pool, ready_bytes, precision };
        let runner = model::load_open(gguf, &options, progress)?;
        Ok((runner, isa.name()))
    }
}

/// What kind of failure an error of the file is.
fn failure(error: &LoadError) -> Failure {
    let kind = match error {
        LoadError::Unreadable { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
            FailureKind::NoSuchFile
        }
        LoadError::Unreadable { .. } => FailureKind::Unreadable,
        LoadError::Malformed { .. } => FailureKind::Damaged,
        LoadError::Unsupported { .. } => FailureKind::Unsupported,
        LoadError::Setup { .. } | LoadError::Cancelled { .. } => FailureKind::NoRoom,
    };
    Failure::new(kind, error.to_string())
}

impl ModelLoader for GgufLoader {
    fn load(&self, _model: &ModelName, desk: &dyn LoadDesk) -> Result<Loaded, Failure> {
        let in_file = |kind, cause: &dyn Display| {
            let text = format!("model {} cannot be set up: {cause}", self.path.display());
            Failure::new(kind, text)
        };
        let in_text = |error: TextError| {
            let kind = match error {
                TextError::Vocabulary(_) => FailureKind::Damaged,
                _ => FailureKind::Unsupported,
            };
            in_file(kind, &error)
        };
        let seen = std::fs::metadata(&self.path).ok();
        let gguf = Gguf::open(&self.path).map_err(|error| failure(&error))?;
        let plan = model::plan_of(&gguf).map_err(|error| failure(&error))?;
        let spec = plan.cache_spec();
        // Vocabulary and pool are looked at before the weights are read: what is wrong is said at once.
        let metadata =
            text_metadata(gguf.metadata()).map_err(|error| in_file(FailureKind::Unsupported, &error))?;
        let text = TextModel::new(metadata).map_err(in_text)?;
        let template_fault = self.render_workers.template_fault(&text);
        if let Some(fault) = &template_fault {
            tracing::info!(model = name_of(&self.path), fault, "its chat template fails");
        }
        let layout = KvLayout::new(&spec, self.block_tokens, self.kv_dtype)
            .map_err(|error| in_file(FailureKind::Unsupported, &error))?;
        let gpu = self.gpu().map_err(|error| in_file(FailureKind::Unsupported, &error))?;
        let needs = self.needs(&gguf, &layout, spec.max_context, gpu.as_ref());
        let pool_bytes = desk.pool_bytes(&needs)?;
        let least_bytes = needs.least_pool_bytes;
        if pool_bytes < least_bytes {
            let cause = format!(
                "a KV pool of {pool_bytes} bytes holds no context, at least {least_bytes} are needed (--kv-pool)"
            );
            return Err(in_file(FailureKind::NoRoom, &cause));
        }
        let ready_bytes = desk.restorable_bytes().min(MAX_READY_BYTES);
        let mut report = |done: model::LoadProgress| {
            desk.progress(LoadProgress { bytes_done: done.bytes_done, bytes_total: done.bytes_total })
        };
        // A digest reads the file once more; beside the packing of the weights that costs little time of its own.
        let (runner, digest) = std::thread::scope(|scope| {
            let digest = scope.spawn(|| self.digest(&gguf, seen));
            let pool = PoolSize::Bytes(pool_bytes);
            (self.load_on(gpu, &gguf, pool, ready_bytes, &mut report), digest.join())
        });
        let (runner, computes) = runner.map_err(|error| failure(&error))?;
        let digest = digest
            .map_err(|_| in_file(FailureKind::Damaged, &"its digest could not be computed"))?
            .map_err(|error| failure(&error))?;
        let effective_context = Footprint::new(&layout).longest_alone(runner.n_blocks(), spec.max_context);
        let card = ModelCard {
            name: name_of(&self.path),
            aliases: vec![alias_of(&self.path)],
            text: Arc::new(text),
            template_fault,
            trained_context: spec.max_context,
            effective_context,
            fingerprint: self.fingerprint(
                &digest,
                (&spec, &layout),
                computes,
                plan.rope_factors(effective_context),
            ),
            file_bytes: gguf.file_bytes(),
            sampling: recommended_sampling(gguf.metadata()),
            loaded_at: SystemTime::now(),
        };
        tracing::info!(
            model = card.name,
            context = card.effective_context,
            pool_blocks = runner.n_blocks(),
            block_bytes = layout.block_bytes,
            threads = self.n_threads,
            kernels = computes,
            precision = self.precision.name(),
            "loaded"
        );
        Ok(Loaded { runner, card: Arc::new(card) })
    }
}
