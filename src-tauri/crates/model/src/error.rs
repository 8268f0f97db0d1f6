//! Why a model could not be loaded, in one line for the user.

use std::path::{Path, PathBuf};

/// A model that could not be loaded; the message is one line that names the file and the cause.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be opened or read, is not a plain file, or was changed while it was read.
    #[error("cannot read model {}: {cause}", path.display())]
    Unreadable {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is no GGUF, is cut off, or contradicts itself.
    #[error("model {} is damaged or no GGUF file: {cause}", path.display())]
    Malformed {
        /// The file asked for.
        path: PathBuf,
        /// What is wrong, with the values found.
        cause: String,
    },
    /// A sound file of a kind that this program does not run.
    #[error("model {} is not supported: {cause}", path.display())]
    Unsupported {
        /// The file asked for.
        path: PathBuf,
        /// What is not supported.
        cause: String,
    },
    /// The model is sound but does not fit the options or the memory.
    #[error("model {} cannot be set up: {cause}", path.display())]
    Setup {
        /// The file asked for.
        path: PathBuf,
        /// What does not fit, with the values.
        cause: String,
    },
    /// The caller's progress function asked to stop.
    #[error("loading {} was cancelled", path.display())]
    Cancelled {
        /// The file asked for.
        path: PathBuf,
    },
}

/// A cause without its file; the file's name is added at the crate's edge.
#[derive(Debug)]
pub(crate) enum Cause {
    Unreadable(std::io::Error),
    Malformed(String),
    Unsupported(String),
    Setup(String),
    Cancelled,
}

impl Cause {
    pub(crate) fn in_file(self, path: &Path) -> LoadError {
        let path = path.to_path_buf();
        match self {
            Cause::Unreadable(cause) => LoadError::Unreadable { path, cause },
            Cause::Malformed(cause) => LoadError::Malformed { path, cause },
            Cause::Unsupported(cause) => LoadError::Unsupported { path, cause },
            Cause::Setup(cause) => LoadError::Setup { path, cause },
            Cause::Cancelled => LoadError::Cancelled { path },
        }
    }
}
