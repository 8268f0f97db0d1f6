//! Named points where a test can hold the engine, and switches that make it fail. Debug builds only.
//!
//! While the file `<folder>/NAME.hold` exists, whoever reaches the point NAME waits; it writes `<folder>/NAME.held`
//! when it starts waiting and removes it when it goes on. The points:
//!
//! - `load`: on the loader's thread, before the weights are read.
//! - `load_half`: on the loader's thread, when half of the weights or more are ready, so that progress can be seen.
//! - `step`: before a step; the engine thread goes on answering its inbox, and its heart goes on beating.
//! - `writing`: the same, where the step would go on with an answer; so a test that asks for an answer afterwards gets its
//!   first token and no end.
//! - `forward`: within a step; the engine thread hangs there, as it would on a device that hangs.
//! - `flush`: before a drain's flush of the store; the engine thread goes on answering its inbox.
//!
//! The switches, each consumed by use: `step.panic` makes the next step panic, `step.error` makes it fail.

#[cfg(debug_assertions)]
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How often a held thread looks whether it is released.
#[cfg(debug_assertions)]
const POLL: Duration = Duration::from_millis(5);

/// Where tests hold the engine, if anywhere.
#[derive(Debug, Clone, Default)]
pub struct HoldPoints {
    #[cfg(debug_assertions)]
    folder: Option<Arc<PathBuf>>,
}

/// A fault that a test asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(debug_assertions), expect(dead_code, reason = "faults are asked for in debug builds only"))]
pub(crate) enum Fault {
    Panic,
    Error,
}

impl HoldPoints {
    /// Nothing holds and nothing fails.
    pub fn none() -> HoldPoints {
        HoldPoints::default()
    }
}

#[cfg(debug_assertions)]
impl HoldPoints {
    /// Hold at NAME while `<folder>/NAME.hold` exists.
    pub fn in_folder(folder: PathBuf) -> HoldPoints {
        HoldPoints { folder: Some(Arc::new(folder)) }
    }

    /// Whether the point is held now. Leaves `NAME.held` for the test to see, and removes it once released.
    pub(crate) fn is_held(&self, name: &str) -> bool {
        let Some(folder) = &self.folder else { return false };
        let held = folder.join(format!("{name}.held"));
        if folder.join(format!("{name}.hold")).exists() {
            if !held.exists() {
                let _ = std::fs::write(&held, b"");
            }
            true
        } else {
            if held.exists() {
                let _ = std::fs::remove_file(&held);
            }
            false
        }
    }

    /// Wait while the point is held.
    pub(crate) fn wait(&self, name: &str) {
        while self.is_held(name) {
            std::thread::sleep(POLL);
        }
    }

    /// The fault asked for, which is thereby used up.
    pub(crate) fn take_fault(&self) -> Option<Fault> {
        let folder = self.folder.as_ref()?;
        let take = |name: &str| std::fs::remove_file(folder.join(name)).is_ok();
        if take("step.panic") {
            Some(Fault::Panic)
        } else if take("step.error") {
            Some(Fault::Error)
        } else {
            None
        }
    }
}

#[cfg(not(debug_assertions))]
impl HoldPoints {
    pub(crate) fn is_held(&self, _name: &str) -> bool {
        false
    }

    pub(crate) fn wait(&self, _name: &str) {}

    pub(crate) fn take_fault(&self) -> Option<Fault> {
        None
    }
}
