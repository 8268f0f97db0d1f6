//! The lifecycle as data: one machine, one writer (the engine thread), many readers.
//!
//! ```text
//!  Unloaded ──load──▶ Loading ──loaded──▶ Ready ──drain{then}──▶ Draining{then, deadline}
//!                       ▲  ▲               ▲                        │ drained
//!                       │  │               └──resume── Parked ◀─────┤ then = Park
//!                       │  └────────────────────────────────────────┤ then = Swap
//!                  retry│                                  Stopped ◀┘ then = Exit
//!                    Failed{cause} ◀── fail, from any live state
//! ```

use std::fmt;
use std::time::Instant;

/// What the engine is doing. Health, admission, tray, window and quit are pure functions of this and of `Stats`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No model yet.
    Unloaded,
    /// Weights are being read; progress is in `Stats`.
    Loading,
    /// Requests are admitted.
    Ready,
    /// Running sequences finish, nothing new is admitted.
    Draining {
        /// What comes after.
        then: After,
        /// When sequences still running are ended.
        deadline: Instant,
    },
    /// Drained and still up.
    Parked,
    /// The model could not be loaded or its worker died.
    Failed {
        /// Why, in words for the user.
        cause: FailureCause,
    },
    /// The engine thread has ended or is about to; nothing comes after.
    Stopped,
}

/// What a drain leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Stay up, admit nothing until resumed.
    Park,
    /// Load another model.
    Swap,
    /// End the process.
    Exit,
}

/// Why the engine failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureCause {
    /// The model could not be loaded; the text names file and cause.
    Load(String),
    /// The worker panicked or the device failed during a step; the text is the panic's message.
    Worker(String),
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailureCause::Load(text) => write!(f, "the model could not be loaded: {text}"),
            FailureCause::Worker(text) => write!(f, "the model's worker failed: {text}"),
        }
    }
}

/// What can happen to a lifecycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// Start loading (also: retry after a failure).
    Load,
    /// The weights are there.
    Loaded,
    /// Stop admitting. While draining: a drain to exit wins over one to park, and the nearer deadline wins.
    Drain {
        /// What comes after.
        then: After,
        /// When sequences still running are ended.
        deadline: Instant,
    },
    /// Every sequence has ended and the store is flushed.
    Drained,
    /// Admit again.
    Resume,
    /// A load error, a worker panic, a lost device.
    Fail(FailureCause),
}

/// A transition that the state does not allow; the message is for the caller of an admin command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {what} while {state}")]
pub struct IllegalTransition {
    /// The transition's name.
    pub what: &'static str,
    /// The state's name.
    pub state: &'static str,
}

impl State {
    /// One lower-case word: `unloaded`, `loading`, `ready`, `draining`, `parked`, `failed` or `stopped`.
    pub fn name(&self) -> &'static str {
        match self {
            State::Unloaded => "unloaded",
            State::Loading => "loading",
            State::Ready => "ready",
            State::Draining { .. } => "draining",
            State::Parked => "parked",
            State::Failed { .. } => "failed",
            State::Stopped => "stopped",
        }
    }
}
