//! Where things lie on disk.

use std::path::{Path, PathBuf};

use directories::ProjectDirs;

/// The folder of a user who has none: nothing can be made there.
pub(crate) const NOWHERE: &str = "/dev/null/no-home";

/// The folders of one installation. Two servers with two data folders never meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folders {
    /// The folder that holds the others, or most of them.
    pub(crate) data: PathBuf,
    /// `settings.toml`.
    pub(crate) settings_file: PathBuf,
    /// GGUF files that can be named without a path.
    pub(crate) models: PathBuf,
    /// The keys that have names, by their digests.
    pub(crate) keys: PathBuf,
    /// Log files.
    pub(crate) logs: PathBuf,
}

impl Folders {
    /// Everything under one folder.
    pub(crate) fn under(data: &Path) -> Folders {
        Folders {
            data: data.to_owned(),
            settings_file: data.join("settings.toml"),
            models: data.join("models"),
            keys: data.join("keys.json"),
            logs: data.join("logs"),
        }
    }

    /// Where the platform wants them; nothing when this user has no home.
    ///
    /// On macOS that is Application Support: caches and temporary folders are purged.
    pub(crate) fn of_this_user() -> Option<Folders> {
        let dirs = ProjectDirs::from("", "", "Samovar")?;
        let data = dirs.data_local_dir();
        Some(Folders {
            data: data.to_owned(),
            settings_file: dirs.config_dir().join("settings.toml"),
            models: data.join("models"),
            keys: data.join("keys.json"),
            logs: dirs.state_dir().unwrap_or(data).join("logs"),
        })
    }

    /// A path that the settings file names, seen from the settings file.
    pub(crate) fn beside_settings(&self, path: &Path) -> PathBuf {
        match self.settings_file.parent() {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        }
    }
}
