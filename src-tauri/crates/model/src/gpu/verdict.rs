//! What comes of loading a model on a GPU: it serves, or why not.

use std::fmt;

use scheduler::ModelRunner;

/// A GPU with a model on it, or what speaks against that.
pub enum GpuLoad {
    /// It serves.
    Serves {
        /// On the GPU.
        runner: Box<dyn ModelRunner>,
        /// How it has proved itself, where it was asked to.
        proof: Option<GpuProof>,
    },
    /// It cannot, or must not. Nothing of the model is left on it.
    Refused(GpuFault),
}

/// A GPU computes what the CPU computes, within the bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpuProof {
    /// Layers of the model.
    pub n_layers: usize,
    /// Layers that were compared, at least one of each kind.
    pub n_compared: usize,
    /// How far the worst value of all was off, as a share of its row's size.
    pub worst: f32,
}

/// Why a GPU does not serve a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuFault {
    /// What kind of thing it is.
    pub kind: GpuFaultKind,
    /// Where it was seen, with the figures; one line.
    pub text: String,
}

/// What speaks against a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuFaultKind {
    /// The model could not be set up there: memory, or an option that it does not have.
    NoRoom,
    /// It computes something else.
    Wrong,
    /// It reported an error, or what drives it panicked.
    Broke,
}

impl GpuFault {
    /// It computes something else.
    #[cfg(any(test, all(feature = "metal", target_os = "macos")))]
    pub(super) fn wrong(text: impl Into<String>) -> GpuFault {
        GpuFault { kind: GpuFaultKind::Wrong, text: text.into() }
    }

    /// The model could not be set up.
    #[cfg(any(test, all(feature = "metal", target_os = "macos")))]
    pub(super) fn no_room(text: impl Into<String>) -> GpuFault {
        GpuFault { kind: GpuFaultKind::NoRoom, text: text.into() }
    }

    /// It broke; the first line of `text` says how.
    #[cfg(any(test, all(feature = "metal", target_os = "macos")))]
    pub(super) fn broke(text: impl Into<String>) -> GpuFault {
        let text = text.into();
        GpuFault { kind: GpuFaultKind::Broke, text: text.lines().next().unwrap_or_default().to_owned() }
    }
}

impl fmt::Display for GpuFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
