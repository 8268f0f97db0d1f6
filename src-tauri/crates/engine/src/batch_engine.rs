//! The engine from outside: start its thread, drain it, wait for its end.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::EngineConfig;
use crate::handle::EngineHandle;
use crate::lifecycle::{After, IllegalTransition};
use crate::loader::ModelLoader;
use crate::stats::DrainReport;

/// Owns the engine thread. Dropping it without a drain ends running sequences at once.
pub struct BatchEngine {
    handle: EngineHandle,
    thread: Option<JoinHandle<()>>,
}

impl BatchEngine {
    /// Start the thread; it begins to load at once.
    pub fn start(config: EngineConfig, loader: Arc<dyn ModelLoader>) -> BatchEngine {
        let (handle, thread) = crate::engine_thread::spawn(config, loader);
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
