//! Opens the durable store as the settings say.

use std::path::PathBuf;
use std::sync::Arc;

use store::{BlockStore, OpenError, Store, StoreConfig, StoreOff, Trouble};

use crate::settings::Settings;
use crate::settings::values::Switch;

/// What to do when another process has the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenLocked {
    /// Say so and end: two servers over one folder are a mistake.
    Refuse,
    /// Do without: one answer in the terminal needs no store.
    GoWithout,
}

/// Open the store. Reads the headers of what it holds, so call it where that may take a moment.
///
/// A disk that refuses costs the store and nothing else: requests are answered, and the status says that nothing is
/// saved.
///
/// # Errors
/// Another process has it, or the cap is too small to work in; one line for the user.
pub(crate) fn open(settings: &Settings, when_locked: WhenLocked) -> Result<Arc<dyn BlockStore>, String> {
    if settings.store == Switch::Off {
        return Ok(Arc::new(StoreOff::default()));
    }
    let config = StoreConfig {
        free_space_floor: settings.store_floor,
        ..StoreConfig::new(dir(settings), settings.store_max)
    };
    let began = std::time::Instant::now();
    match Store::open(config) {
        Ok(store) => {
            let stats = store.stats();
            let n_agents = store.agents().len();
            tracing::info!(
                blocks = stats.n_blocks,
                bytes = stats.stored_bytes,
                agents = n_agents,
                took = ?began.elapsed(),
                "the store is open"
            );
            Ok(Arc::new(store))
        }
        Err(error @ OpenError::Locked { .. }) if when_locked == WhenLocked::Refuse => Err(error.to_string()),
        Err(error @ OpenError::Locked { .. }) => {
            tracing::info!(%error, "nothing is kept on disk");
            Ok(Arc::new(StoreOff::default()))
        }
        Err(error @ OpenError::CapTooSmall { .. }) => Err(format!("store_max: {error}")),
        Err(OpenError::Io { path, source }) => {
            let trouble = Trouble::of(&source);
            tracing::error!(
                path = %path.display(), error = %source,
                "the store cannot be opened: nothing is kept on disk until the next start"
            );
            Ok(Arc::new(StoreOff { trouble: Some(trouble) }))
        }
    }
}

fn dir(settings: &Settings) -> PathBuf {
    settings.folders.data.join("store")
}
