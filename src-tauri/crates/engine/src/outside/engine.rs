//! The engine from outside: start its thread, drain it, wait for its end.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::handle::EngineHandle;
use crate::config::EngineConfig;
use crate::inbox::command::Command;
use crate::shared::Shared;
use crate::thread::engine_thread::{EngineThread, Parts};
use crate::told::loader::ModelLoader;
use crate::told::state::{After, IllegalTransition, State};
use crate::told::stats::{DrainReport, Stats};

/// Owns the engine thread. Dropping it without a drain ends running sequences at once.
pub struct BatchEngine {
    handle: EngineHandle,
    thread: Option<JoinHandle<()>>,
}

impl BatchEngine {
    /// Start the thread; it begins to load the default model at once.
    pub fn start(config: EngineConfig, loader: Arc<dyn ModelLoader>) -> BatchEngine {
        let (to_self, inbox) = channel();
        let (state, state_window) = watch::channel(State::Unloaded);
        let stats = Stats { heartbeat: config.clock.now(), ..Stats::default() };
        let (stats_sender, stats_window) = watch::channel(stats.clone());
        let shared = Arc::new(Shared::new(
            config.default_model.clone(),
            config.max_requests,
            Arc::downgrade(&config.store),
            config.clock.clone(),
        ));
        let handle = EngineHandle {
            inbox: to_self.clone(),
            state: state_window,
            stats: stats_window,
            shared: Arc::clone(&shared),
        };
        let listener = to_self.clone();
        // An engine that has ended needs no news.
        config.store.listen(Box::new(move |event| drop(listener.send(Command::Store(event)))));
        let parts = Parts { config, inbox, to_self, loader, state, stats, stats_sender, shared };
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || EngineThread::new(parts).run())
            .expect("the system gives a process that starts a thread");
        BatchEngine { handle, thread: Some(thread) }
    }

    /// A handle, to be cloned at will.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Drain and exit: after it the state is `Stopped` and [`BatchEngine::join`] returns at once.
    ///
    /// # Errors
    /// The engine has ended already, or the drain was cancelled by `resume`.
    pub async fn drain(&self, timeout: Duration) -> Result<DrainReport, IllegalTransition> {
        self.handle.drain(After::Exit, timeout).await
    }

    /// Wait until the thread has ended, which a drain to exit makes it do, and with it the store, if nobody else has
    /// it.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is in the log already, and every stream has got its fault.
            let _ = thread.join();
        }
    }
}

impl Drop for BatchEngine {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.handle.begin_drain(After::Exit, Duration::ZERO);
        }
    }
}
