//! The engine thread.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::config::EngineConfig;
use crate::handle::EngineHandle;
use crate::loader::ModelLoader;

/// Start the thread.
pub(crate) fn spawn(_config: EngineConfig, _loader: Arc<dyn ModelLoader>) -> (EngineHandle, JoinHandle<()>) {
    todo!()
}
