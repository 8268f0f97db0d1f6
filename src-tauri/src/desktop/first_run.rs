//! Whether a model has ever answered here. Until then the app shows its window when it starts: who does not know of the
//! icon, or cannot see it, would find nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// A file in the data folder that is there from the first answer on.
#[derive(Debug, Clone)]
pub(crate) struct FirstRun {
    marker: PathBuf,
}

impl FirstRun {
    /// Of the app with this data folder.
    pub(crate) fn of(data: &Path) -> FirstRun {
        FirstRun { marker: data.join("answered") }
    }

    /// Whether a model has answered, in this run or in an earlier one.
    pub(crate) fn is_over(&self) -> bool {
        self.marker.exists()
    }

    /// A model has answered. A folder that takes no file makes the next start another first one.
    pub(crate) fn end(&self) {
        if let Err(error) = fs::write(&self.marker, "") {
            tracing::warn!(%error, "the window will open by itself again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_run_lasts_until_a_model_has_answered_and_is_over_for_good() {
        let data = tempfile::tempdir().unwrap();
        let first = FirstRun::of(data.path());
        assert!(!first.is_over() && !FirstRun::of(data.path()).is_over());
        first.end();
        assert!(first.is_over() && FirstRun::of(data.path()).is_over());
        FirstRun::of(&data.path().join("gone")).end();
        assert!(!FirstRun::of(&data.path().join("gone")).is_over());
    }
}
