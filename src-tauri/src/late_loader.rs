//! Finds the model when it is loaded, not before: the desktop app starts without one, and a retry finds the file
//! that has been put there meanwhile.

use std::sync::Arc;

use engine::{Failure, FailureKind, LoadDesk, Loaded, ModelLoader, ModelName};
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
    fn load(&self, model: &ModelName, desk: &dyn LoadDesk) -> Result<Loaded, Failure> {
        let path = model_file::find(self.settings.model.as_deref(), &self.settings.folders.models)?;
        let loader = GgufLoader::new(&self.settings, path, Arc::clone(&self.render_workers));
        loader.map_err(|text| Failure::new(FailureKind::Unsupported, text))?.load(model, desk)
    }
}
