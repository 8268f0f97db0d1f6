//! Loads a GGUF file for the engine: weights and pool from `model`, vocabulary and chat template from `text`.
//!
//! A chat template is tried with one plain message: one that fails is said in the log, chats say whose fault it is,
//! and completions work.

use std::cell::{Cell, LazyCell, OnceCell};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use engine::{
    Backend, Failure, FailureKind, GoesBack, GpuRefusal, LoadDesk, LoadProgress, Loaded, ModelCard,
    ModelLoader, ModelName, Needs, PoolWish, Purpose, Runner, SamplingChoices, ServedBy, WorkerRunner,
};
use kernels::isa::Isa;
use model::{
    EmbedderOptions, EncoderOutline, Gguf, Gpu, GpuLoad, GpuOptions, GpuProofOptions, LoadError, LoadOptions,
    ModelPart, ModelPlan, Outline, PoolSize, Precision, RopeFactors,
};
use scheduler::footprint::Footprint;
use scheduler::{KvDtype, KvLayout, ModelCacheSpec, ModelRunner};
use server::RenderWorkers;
use text::TextModel;

use crate::about::about;
use crate::device::{self, Choice, Loads, Served};
use crate::gpu_trust::{GpuTrust, Subject, Verdict};
use crate::memory::RESERVE_BYTES;
use crate::model_digest::{self, DigestList};
use crate::model_file::{aliases_of, name_of};
use crate::opened_model::{OpenedModel, failure, in_file};
use crate::recommended_sampling::recommended_sampling;
use crate::settings::Settings;
use crate::settings::values::{Amount, Device, GpuProofs, Kernels};

/// Memory of the pool that is taken while the model loads at most, so that what comes back from the disk need not wait
/// for it; more is taken when it is needed.
const MAX_READY_BYTES: u64 = 512 << 20;

/// One model file and how it is to be loaded. Loading again starts from the file.
pub(crate) struct GgufLoader {
    path: PathBuf,
    digests: DigestList,
    gpu_trust: GpuTrust,
    gpu_proofs: GpuProofs,
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
    /// What has been opened for the first load, which takes it. Guards that alone, and is held for the taking only.
    opened: Mutex<Option<OpenedModel>>,
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
        device::choose(settings.device, settings.kv_dtype, |_| None)?;
        let n_threads = match settings.threads {
            Amount::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Amount::Fixed(n) => n,
        };
        Ok(GgufLoader {
            path,
            digests: DigestList::in_folder(&settings.folders.data),
            gpu_trust: GpuTrust::in_folder(&settings.folders.data),
            gpu_proofs: settings.gpu_proofs,
            device: settings.device,
            n_threads,
            isa,
            block_tokens: settings.block_tokens,
            kv_dtype: settings.kv_dtype,
            precision: settings.precision,
            kv_pool: settings.kv_pool,
            max_batch: settings.max_batch,
            render_workers,
            opened: Mutex::default(),
        })
    }

    /// Look at the model before anybody is told of it. The next load goes on from there.
    ///
    /// # Errors
    /// It is damaged or not supported.
    pub(crate) fn look(&self) -> Result<(), Failure> {
        let opened = self.open()?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        Ok(())
    }

    fn open(&self) -> Result<OpenedModel, Failure> {
        OpenedModel::open(&self.path, self.block_tokens, self.kv_dtype)
    }

    /// As [`GgufLoader::new`], of a model that is trusted: its chats are rendered in this process.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn trusting(settings: &Settings, path: PathBuf) -> Result<GgufLoader, String> {
        GgufLoader::new(settings, path, Arc::new(RenderWorkers::in_this_process()))
    }

    /// What the model needs of memory: a pool as set, or one for as many contexts of full length as run at a time.
    pub(crate) fn needs(
        &self,
        gguf: &Gguf,
        outline: &Outline,
        layout: &KvLayout,
        gpu: Option<&Gpu>,
    ) -> Needs {
        let footprint = Footprint::new(layout);
        let sequence_bytes = footprint.alone(outline.plan.max_context) as u64 * layout.block_bytes as u64;
        Needs {
            weights_bytes: match gpu {
                Some(_) => gguf.file_bytes(),
                None => outline.weights_bytes,
            },
            least_pool_bytes: (footprint.n_groups() + footprint.n_pieces()) as u64
                * layout.block_bytes as u64,
            pool: match self.kv_pool {
                Amount::Fixed(bytes) => PoolWish::Fixed(bytes),
                Amount::Auto => PoolWish::AtMost(sequence_bytes.saturating_mul(self.max_batch as u64)),
            },
            device_bytes: gpu.map(|gpu| gpu.memory_bytes().saturating_sub(RESERVE_BYTES)),
        }
    }

    /// Ask for memory: bytes of the pool, which hold a context.
    ///
    /// # Errors
    /// There is no room, or the pool that was set is too small.
    pub(crate) fn pool_bytes(&self, desk: &dyn LoadDesk, needs: &Needs) -> Result<u64, Failure> {
        let pool_bytes = desk.pool_bytes(needs)?;
        let least_bytes = needs.least_pool_bytes;
        if pool_bytes < least_bytes {
            let cause = format!(
                "a KV pool of {pool_bytes} bytes holds no context, at least {least_bytes} are needed (--kv-pool)"
            );
            return Err(in_file(&self.path, FailureKind::NoRoom, &cause));
        }
        Ok(pool_bytes)
    }

    /// The digest of the opened model, of whose files each is remembered, or computed and remembered.
    ///
    /// # Errors
    /// A file cannot be read to its end.
    fn digest(&self, gguf: &Gguf) -> Result<[u8; 32], LoadError> {
        let digests: Result<Vec<_>, _> = gguf.parts().iter().map(|part| self.digest_of_part(part)).collect();
        Ok(Gguf::digest_of(&digests?))
    }

    fn digest_of_part(&self, part: &ModelPart) -> Result<[u8; 32], LoadError> {
        if let Some(known) = self.digests.find(part.opened()) {
            return Ok(known);
        }
        let digest = part.digest()?;
        if part.now().is_ok_and(|now| model_digest::is_same_file(part.opened(), &now))
            && let Err(error) = self.digests.remember(part.opened(), &digest)
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
    /// What computes `plan`, the model in `gguf`, on this machine.
    ///
    /// # Errors
    /// The GPU was asked for and cannot be had; one line for the user.
    pub(crate) fn choice(&self, gguf: &Gguf, plan: &ModelPlan) -> Result<Choice<Gpu>, String> {
        device::choose(self.device, self.kv_dtype, |gpu| match model::gpu_refusal(plan, gguf) {
            Some(lacking) => Some(device::lacking(&lacking)),
            None => match self.known_verdict(gpu, gguf) {
                Some(Verdict::Failed(refusal)) => Some(refusal),
                Some(Verdict::Passed) | None => None,
            },
        })
    }

    /// How the GPU has proved itself on the model in `gguf`, as far as that is to count.
    fn known_verdict(&self, gpu: &Gpu, gguf: &Gguf) -> Option<Verdict> {
        let digests = gguf.parts().iter().map(|part| self.digests.find(part.opened()));
        let digest = Gguf::digest_of(&digests.collect::<Option<Vec<_>>>()?);
        match self.gpu_proofs {
            GpuProofs::Once => self.gpu_trust.find(&self.subject(gpu.name(), &digest)),
            GpuProofs::Always => None,
        }
    }

    fn subject<'a>(&self, gpu: &'a str, model: &'a [u8; 32]) -> Subject<'a> {
        Subject { gpu, model, kv_dtype: self.kv_dtype }
    }
}

/// A load under way: a model's file, on its way to whatever will compute it.
struct LoadUnderWay<'a> {
    loader: &'a GgufLoader,
    opened: (&'a Gguf, &'a Outline, &'a KvLayout),
    desk: &'a dyn LoadDesk,
    /// The GPU's name, where one is to compute.
    gpu: String,
    /// Begins to read the model for its digest, if nobody has: a model that there is no memory for is not read.
    begin_digest: &'a dyn Fn(),
    /// Waits for the model's digest; none where it cannot be had.
    digest: &'a dyn Fn() -> Option<[u8; 32]>,
}

impl LoadUnderWay<'_> {
    /// Ask for the memory that the model needs on the CPU or on a GPU.
    fn pool(&self, gpu: Option<&Gpu>) -> Result<PoolSize, Failure> {
        let (gguf, outline, layout) = self.opened;
        let needs = self.loader.needs(gguf, outline, layout, gpu);
        let pool_bytes = self.loader.pool_bytes(self.desk, &needs)?;
        (self.begin_digest)();
        Ok(PoolSize::Bytes(pool_bytes))
    }

    fn report(&self, done: model::LoadProgress) -> ControlFlow<()> {
        self.desk.progress(LoadProgress { bytes_done: done.bytes_done, bytes_total: done.bytes_total })
    }
}

impl Loads<Gpu> for LoadUnderWay<'_> {
    fn by_gpu(&self, gpu: Gpu) -> Result<GpuLoad, Failure> {
        let GgufLoader { n_threads, isa, block_tokens, kv_dtype, .. } = *self.loader;
        let gguf = self.opened.0;
        let options = GpuOptions { block_tokens, kv_dtype, pool: self.pool(Some(&gpu))? };
        let is_trusted = self.loader.known_verdict(&gpu, gguf) == Some(Verdict::Passed);
        let proof = (!is_trusted).then_some(GpuProofOptions { n_threads, isa });
        let load = gpu.load(gguf, &options, proof.as_ref(), &mut |done| self.report(done));
        match load.map_err(|error| failure(&error))? {
            // The engine thread has other models to step while the GPU computes.
            GpuLoad::Serves { runner, proof } => {
                let runner = WorkerRunner::new(runner).map_err(|error| {
                    let cause = format!("no thread for the GPU: {error}");
                    in_file(gguf.path(), FailureKind::NoRoom, &cause)
                })?;
                Ok(GpuLoad::Serves { runner: Box::new(runner), proof })
            }
            refused @ GpuLoad::Refused(_) => Ok(refused),
        }
    }

    fn by_cpu(&self) -> Result<Box<dyn ModelRunner>, Failure> {
        let GgufLoader { n_threads, isa, block_tokens, kv_dtype, precision, .. } = *self.loader;
        let pool = self.pool(None)?;
        let ready_bytes = self.desk.restorable_bytes().min(MAX_READY_BYTES);
        let options = LoadOptions { n_threads, isa, block_tokens, kv_dtype, pool, ready_bytes, precision };
        let runner = model::load_open(self.opened.0, &options, &mut |done| self.report(done));
        runner.map_err(|error| failure(&error))
    }

    fn learnt(&self, verdict: &Verdict) {
        let Some(digest) = (self.digest)() else { return };
        if let Err(error) = self.loader.gpu_trust.remember(&self.loader.subject(&self.gpu, &digest), verdict)
        {
            tracing::warn!(%error, "how the GPU proved itself is not remembered, and it will do so again");
        }
    }

    fn refused(&self, refusal: &GpuRefusal) -> Failure {
        in_file(self.opened.0.path(), FailureKind::NoRoom, refusal)
    }
}

impl ModelLoader for GgufLoader {
    fn load(&self, _model: &ModelName, desk: &dyn LoadDesk) -> Result<Loaded, Failure> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        let OpenedModel { gguf, outline, text, layout } = opened.map_or_else(|| self.open(), Ok)?;
        match (layout, outline.encoder.clone()) {
            (_, Some(encoder)) => self.load_encoder(&gguf, &outline, encoder, text, desk),
            (Some(layout), None) => self.load_generating(&gguf, &outline, &layout, text, desk),
            (None, None) => {
                let cause = "it is neither an encoder nor has it KV";
                Err(in_file(&self.path, FailureKind::Unsupported, &cause))
            }
        }
    }
}

impl GgufLoader {
    fn load_generating(
        &self,
        gguf: &Gguf,
        outline: &Outline,
        layout: &KvLayout,
        text: TextModel,
        desk: &dyn LoadDesk,
    ) -> Result<Loaded, Failure> {
        let template_fault = self.render_workers.template_fault(&text);
        if let Some(fault) = &template_fault {
            tracing::info!(model = name_of(&self.path), fault, "its chat template fails");
        }
        let choice = self.choice(gguf, &outline.plan);
        let choice = choice.map_err(|error| in_file(&self.path, FailureKind::Unsupported, &error))?;
        let gpu = match &choice {
            Choice::Gpu(gpu) => gpu.name().to_owned(),
            Choice::Cpu { .. } => String::new(),
        };
        // A digest reads the file once more; beside the packing of the weights that costs little time of its own.
        let (served, digest) = std::thread::scope(|scope| {
            let thread = OnceCell::new();
            let begin_digest = || {
                thread.get_or_init(|| Cell::new(Some(scope.spawn(move || self.digest(gguf)))));
            };
            let digest = LazyCell::new(|| Some(thread.get()?.take()?.join()));
            let waited = || (*digest).as_ref()?.as_ref().ok()?.as_ref().ok().copied();
            let opened = (gguf, outline, layout);
            let load = LoadUnderWay {
                loader: self,
                opened,
                desk,
                gpu,
                begin_digest: &begin_digest,
                digest: &waited,
            };
            let served = device::serve(self.device, choice, &load);
            let digest = match &*digest {
                Some(Ok(Ok(digest))) => Ok(*digest),
                Some(Ok(Err(error))) => Err(failure(error)),
                Some(Err(_)) | None => {
                    let cause = "its digest could not be computed";
                    Err(in_file(&self.path, FailureKind::Damaged, &cause))
                }
            };
            (served, digest)
        });
        let (Served { runner, by }, digest) = (served?, digest?);
        let computes = match by.backend {
            Backend::Cpu => self.isa.name(),
            Backend::Metal => Gpu::NUMERICS,
        };
        let spec = outline.plan.cache_spec();
        let effective_context = Footprint::new(layout).longest_alone(runner.n_blocks(), spec.max_context);
        let card = ModelCard {
            name: name_of(&self.path),
            aliases: aliases_of(&self.path),
            purpose: Purpose::Generate,
            text: Arc::new(text),
            template_fault,
            trained_context: spec.max_context,
            effective_context,
            goes_back: GoesBack::of(&spec),
            fingerprint: self.fingerprint(
                &digest,
                (&spec, layout),
                computes,
                outline.plan.rope_factors(effective_context),
            ),
            file_bytes: gguf.file_bytes(),
            about: about(gguf),
            sampling: recommended_sampling(gguf.metadata()),
            served_by: by,
            loaded_at: SystemTime::now(),
        };
        tracing::info!(
            model = card.name,
            context = card.effective_context,
            pool_blocks = runner.n_blocks(),
            block_bytes = layout.block_bytes,
            backend = card.served_by.backend.name(),
            threads = self.n_threads,
            kernels = computes,
            precision = self.precision.name(),
            "loaded"
        );
        Ok(Loaded { runner: Runner::Generates(runner), card: Arc::new(card) })
    }

    /// An encoder, which has no pool: what it takes beside its weights is the memory to read in.
    fn load_encoder(
        &self,
        gguf: &Gguf,
        outline: &Outline,
        encoder: EncoderOutline,
        text: TextModel,
        desk: &dyn LoadDesk,
    ) -> Result<Loaded, Failure> {
        // The GPU reads no texts; where it was asked for by name, that is said here.
        let choice = self.choice(gguf, &outline.plan);
        let choice = choice.map_err(|error| in_file(&self.path, FailureKind::Unsupported, &error))?;
        let gpu_refusal = match choice {
            Choice::Cpu { because } => because,
            Choice::Gpu(_) => None,
        };
        let weights_bytes = outline.weights_bytes.saturating_add(encoder.work_bytes);
        let pool = PoolWish::Fixed(0);
        desk.pool_bytes(&Needs { weights_bytes, least_pool_bytes: 0, pool, device_bytes: None })?;
        let GgufLoader { n_threads, isa, precision, .. } = *self;
        let options = EmbedderOptions { n_threads, isa, precision };
        let mut report = |done: model::LoadProgress| {
            desk.progress(LoadProgress { bytes_done: done.bytes_done, bytes_total: done.bytes_total })
        };
        let (embedder, digest) = std::thread::scope(|scope| {
            let digest = scope.spawn(|| self.digest(gguf));
            (model::load_embedder(gguf, &options, &mut report), digest.join())
        });
        let embedder = embedder.map_err(|error| failure(&error))?;
        let digest = self.joined(digest)?;
        let spec = encoder.spec;
        tracing::info!(
            model = name_of(&self.path),
            dimensions = spec.width,
            pooling = spec.pooling.name(),
            longest_text = spec.max_tokens,
            threads = n_threads,
            kernels = isa.name(),
            precision = precision.name(),
            "loaded an encoder, which has no KV pool"
        );
        let card = ModelCard {
            name: name_of(&self.path),
            aliases: aliases_of(&self.path),
            text: Arc::new(text),
            template_fault: None,
            trained_context: spec.max_tokens,
            effective_context: spec.max_tokens,
            goes_back: GoesBack::Anywhere,
            fingerprint: self.fingerprint_of_encoder(&digest),
            file_bytes: gguf.file_bytes(),
            about: about(gguf),
            sampling: SamplingChoices::default(),
            served_by: ServedBy { backend: Backend::Cpu, gpu_refusal },
            loaded_at: SystemTime::now(),
            purpose: Purpose::Embed(spec),
        };
        Ok(Loaded { runner: Runner::Embeds(embedder), card: Arc::new(card) })
    }

    /// The digest that a thread of its own has computed.
    fn joined(&self, digest: std::thread::Result<Result<[u8; 32], LoadError>>) -> Result<[u8; 32], Failure> {
        digest
            .map_err(|_| in_file(&self.path, FailureKind::Damaged, &"its digest could not be computed"))?
            .map_err(|error| failure(&error))
    }

    /// What must be the same for vectors to be the same.
    fn fingerprint_of_encoder(&self, weights: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("samovar encoder fingerprint 1");
        hasher.update(weights);
        hasher.update(self.isa.name().as_bytes());
        hasher.update(self.precision.name().as_bytes());
        hasher.update(&kernels::NUMERICS_REV.to_le_bytes());
        *hasher.finalize().as_bytes()
    }
}
