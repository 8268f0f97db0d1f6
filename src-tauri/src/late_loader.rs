//! Finds the model when it is loaded, not before: the desktop app starts without one, and a retry finds the file
//! that has been put there meanwhile.

use std::ops::ControlFlow;
use std::sync::Arc;

use engine::{LoadProgress, Loaded, ModelLoader};
use server::RenderWorkers;

use crate::gguf_loader::GgufLoader;
use crate::model_file;
use crate::settings::Settings;

/// Loads whatever the settings lead to.
pub(crate) struct LateLoader {
    pub(crate) settings: Arc<Settings>,
    pub(crate) render_workers: Arc<RenderWorkers>,
}

impl ModelLoader for LateLoader {
    fn load(
        &self,
        restorable_bytes: u64,
        progress: &dyn Fn(LoadProgress) -> ControlFlow<()>,
    ) -> Result<Loaded, String> {
        let path = model_file::find(self.settings.model.as_deref(), &self.settings.folders.models)?;
        GgufLoader::new(&self.settings, path, Arc::clone(&self.render_workers))?
            .load(restorable_bytes, progress)
    }
}
