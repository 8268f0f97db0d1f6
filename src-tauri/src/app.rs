//! The one place that wires: settings → store → loader → engine → server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{BatchEngine, EngineConfig, EngineHandle, HoldPoints, ModelLoader, ModelName, State};
use server::{ApiKey, BindError, ListeningServer, RenderWorkers, Server, ServerConfig};
use tokio::task::JoinHandle;

use crate::gguf_loader::GgufLoader;
use crate::kv_store::{self, WhenLocked};
#[cfg(feature = "desktop")]
use crate::late_loader::LateLoader;
use crate::settings::Settings;
use crate::{allocator, api_key, memory, model_file, own_key, render_chats, signing_key};

/// Tokens of a step beyond one request's chunk: room for the decodes that go with it, and for short prompts.
const STEP_TOKENS_BESIDE_A_CHUNK: usize = 256;

/// Everything that was found to be in order, and an address that is ours. No weights have been read.
pub(crate) struct Prepared {
    listening: ListeningServer,
    loader: Arc<dyn ModelLoader>,
    engine: EngineConfig,
    drain_timeout: Duration,
    /// What the window shows to the server.
    #[cfg_attr(not(feature = "desktop"), expect(dead_code, reason = "a window shows it"))]
    pub(crate) own_key: String,
    /// The model that will be loaded, where it has been found.
    #[cfg_attr(
        not(feature = "desktop"),
        expect(dead_code, reason = "a tray shows it while the model loads")
    )]
    pub(crate) model_name: Option<String>,
}

/// What opens a server.
enum Keys {
    /// The one key of the settings, those that have names, and the owner's own.
    OfSettings(Option<String>),
    /// This one.
    Only(String),
}

/// Where models come from, and what renders their chats.
struct Models {
    default: ModelName,
    loader: Arc<dyn ModelLoader>,
    render_workers: Arc<RenderWorkers>,
}

/// Why there is no server; each is a line for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotStart {
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A running engine and the server in front of it.
pub(crate) struct App {
    engine: BatchEngine,
    serving: JoinHandle<()>,
    /// How long a drain may last that does not say.
    pub(crate) drain_timeout: Duration,
}

/// How a process's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing was interrupted.
    Clean,
    /// The drain's deadline ended something.
    Interrupted,
}

impl Prepared {
    /// Check what can be checked without reading weights, and listen: whoever reads the address of a server may rely on
    /// a model that is supported.
    ///
    /// # Errors
    /// One line for the user.
    pub(crate) async fn new(settings: &Settings) -> Result<Prepared, String> {
        let key = settings.api_key_file.as_deref().map(api_key::read).transpose()?;
        Prepared::with_keys(settings, Keys::OfSettings(key), WhenLocked::Refuse).await
    }

    /// As [`Prepared::new`], with a key that no file has, and no other.
    ///
    /// # Errors
    /// One line for the user.
    pub(crate) async fn with_key_alone(
        settings: &Settings,
        key: String,
        when_locked: WhenLocked,
    ) -> Result<Prepared, String> {
        Prepared::with_keys(settings, Keys::Only(key), when_locked).await
    }

    async fn with_keys(settings: &Settings, keys: Keys, when_locked: WhenLocked) -> Result<Prepared, String> {
        let path = model_file::find(settings.model.as_deref(), &settings.folders.models);
        let path = path.map_err(|failure| failure.text)?;
        let default = model_file::name_of(&path).into();
        let workers = Arc::new(render_workers());
        let loader = GgufLoader::new(settings, path, Arc::clone(&workers))?;
        loader.look().map_err(|failure| failure.text)?;
        let port = settings.address.port();
        let models = Models { default, loader: Arc::new(loader), render_workers: workers };
        let prepared = Prepared::bind(settings, port, keys, models, when_locked).await;
        prepared.map_err(|error| error.to_string())
    }

    /// As [`Prepared::new`] for the desktop app, which starts without a model too, on `port`.
    ///
    /// # Errors
    /// Why it cannot listen.
    #[cfg(feature = "desktop")]
    pub(crate) async fn for_desktop(
        settings: &Arc<Settings>,
        port: u16,
        key: Option<String>,
    ) -> Result<Prepared, CannotStart> {
        let found = model_file::find(settings.model.as_deref(), &settings.folders.models);
        let workers = Arc::new(render_workers());
        let loader = LateLoader { settings: Arc::clone(settings), render_workers: Arc::clone(&workers) };
        let named = found.as_ref().ok().map(|path| model_file::name_of(path));
        let default = named.or_else(|| settings.model.clone()).unwrap_or_else(|| "default".to_owned());
        let models = Models { default: default.into(), loader: Arc::new(loader), render_workers: workers };
        let prepared =
            Prepared::bind(settings, port, Keys::OfSettings(key), models, WhenLocked::Refuse).await?;
        Ok(Prepared { model_name: found.ok().map(|path| model_file::name_of(&path)), ..prepared })
    }

    async fn bind(
        settings: &Settings,
        port: u16,
        keys: Keys,
        models: Models,
        when_locked: WhenLocked,
    ) -> Result<Prepared, CannotStart> {
        let api_key = |key: &str| ApiKey::new(key).map_err(|error| CannotStart::Other(error.to_string()));
        let (single, named) = match keys {
            Keys::Only(key) => (Some(key), None),
            Keys::OfSettings(key) => (key, Some(settings.folders.keys.clone())),
        };
        let (own_key, keeps_keys) = (own_key::random(), named.is_some());
        let config = ServerConfig {
            host: settings.host.clone(),
            port,
            allowed_hosts: settings.allow_host.clone(),
            allowed_origins: settings.allow_origin.clone(),
            api_key: single.as_deref().map(api_key).transpose()?,
            key_file: named,
            own_key: Some(api_key(&own_key)?),
            drain_timeout: settings.drain_timeout,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model_patterns: settings.model_aliases.clone(),
            render_workers: models.render_workers,
            sampling: settings.sampling.clone(),
            signing_key: signing_key::in_folder(&settings.folders.data),
            allocated_bytes: allocator::allocated_bytes,
            ..ServerConfig::default()
        };
        let listening = Server::bind(config).await?;
        let store = kv_store::open(settings, when_locked).map_err(CannotStart::Other)?;
        // Whoever comes this far is the only server on this folder: another one's key is still good until then.
        if keeps_keys {
            own_key::leave_in(&settings.folders.data, &own_key);
        }
        let engine = EngineConfig {
            default_model: models.default,
            memory_limit: memory::memory_limit(),
            leave_timeout: settings.drain_timeout,
            max_requests: settings.max_requests,
            queue_timeout: settings.queue_timeout,
            step_token_budget: settings.prefill_chunk + STEP_TOKENS_BESIDE_A_CHUNK,
            prefill_chunk: settings.prefill_chunk,
            max_batch: settings.max_batch,
            store,
            holds: hold_points(settings),
            ..EngineConfig::default()
        };
        let loader = models.loader;
        Ok(Prepared {
            listening,
            loader,
            engine,
            drain_timeout: settings.drain_timeout,
            own_key,
            model_name: None,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Start the engine, which begins to load, and answer requests.
    pub(crate) fn start(self) -> App {
        let engine = BatchEngine::start(self.engine, self.loader);
        let serving = tokio::spawn(self.listening.serve(engine.handle()));
        App { engine, serving, drain_timeout: self.drain_timeout }
    }
}

impl App {
    /// The engine, to ask and to watch.
    pub(crate) fn handle(&self) -> EngineHandle {
        self.engine.handle()
    }

    /// Wait until the first load has ended.
    ///
    /// # Errors
    /// It failed; the line names the file and the cause.
    pub(crate) async fn loaded(&self) -> Result<(), String> {
        let mut state = self.handle().watch_state();
        let ended = state.wait_for(|state| !matches!(state, State::Unloaded | State::Loading)).await;
        match ended.as_deref() {
            Ok(State::Failed(failure)) => Err(failure.text.clone()),
            _ => Ok(()),
        }
    }

    /// Wait until something has made the engine drain and stop, and the server has said its last words.
    pub(crate) async fn ended(self) -> Ending {
        let handle = self.engine.handle();
        // An error means that the engine's thread has ended, which comes to the same.
        let _ = handle.watch_state().wait_for(|state| *state == State::Stopped).await;
        if self.serving.await.is_err() {
            tracing::error!("the server's task panicked");
        }
        let last_drain = handle.stats().last_drain;
        let joined = tokio::task::spawn_blocking(move || self.engine.join());
        // A panic of the engine thread is in its own log line and in every stream already.
        let _ = joined.await;
        match last_drain {
            Some(report) if report.n_interrupted > 0 => Ending::Interrupted,
            _ => Ending::Clean,
        }
    }
}

/// Renders chats in other processes of this program.
pub(crate) fn render_workers() -> RenderWorkers {
    // On Linux this leads to the running program also when its file has been replaced.
    let running = PathBuf::from("/proc/self/exe");
    let program = if running.exists() { Ok(running) } else { std::env::current_exe() };
    RenderWorkers::new(program.unwrap_or_else(|_| "samovar".into()), render_chats::ARGUMENT)
}

#[cfg(debug_assertions)]
fn hold_points(settings: &Settings) -> HoldPoints {
    settings.hold_dir.clone().map_or_else(HoldPoints::none, HoldPoints::in_folder)
}

#[cfg(not(debug_assertions))]
fn hold_points(_settings: &Settings) -> HoldPoints {
    HoldPoints::none()
}
