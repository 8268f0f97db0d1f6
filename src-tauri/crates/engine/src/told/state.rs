//! What the engine says of itself in one word, and why it failed.

use std::fmt;
use std::time::Instant;

/// What the engine is doing, as its default model's users see it: a pure function of the server's and that model's
/// lifecycle, see [`crate::lifecycle::state_of`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The default model is not here, and nobody loads it.
    Unloaded,
    /// Its weights are being read; progress is in `Stats`.
    Loading,
    /// Requests are admitted.
    Ready,
    /// Running sequences of all models finish, nothing new is admitted.
    Draining {
        /// What comes after.
        then: After,
        /// When sequences still running are ended.
        deadline: Instant,
    },
    /// Drained and still up.
    Parked,
    /// The default model could not be loaded or its worker died.
    Failed(Failure),
    /// The engine thread has ended or is about to; nothing comes after.
    Stopped,
}

crate::names! {
    pub State {
        Unloaded => "unloaded",
        Loading => "loading",
        Ready => "ready",
        Draining => "draining",
        Parked => "parked",
        Failed => "failed",
        Stopped => "stopped",
    }
}

/// What a drain leads to. Of two drains the greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// Stay up, admit nothing until resumed.
    Park,
    /// End the process.
    Exit,
}

crate::names! {
    pub After {
        Park => "park",
        Exit => "exit",
    }
}

/// What the server is doing, whichever models it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Requests are admitted to every model that is ready.
    Open,
    /// Running sequences finish, nothing new is admitted.
    Draining {
        /// What comes after.
        then: After,
        /// When sequences still running are ended.
        deadline: Instant,
    },
    /// Drained and still up.
    Parked,
    /// It has ended or is about to; nothing comes after.
    Stopped,
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelState {
    /// Not in memory, and nobody loads it.
    Absent,
    /// Its weights are being read, or it waits for room.
    Loading,
    /// It answers.
    Ready,
    /// It finishes what runs and goes; nothing new is admitted to it.
    Leaving {
        /// When sequences still running are ended.
        deadline: Instant,
    },
    /// It could not be loaded, or its worker died.
    Failed(Failure),
}

crate::names! {
    pub ModelState {
        Absent => "absent",
        Loading => "loading",
        Ready => "ready",
        Leaving => "leaving",
        Failed => "failed",
    }
}

/// Why a model is not there: a kind to go by, and a sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// What kind of thing went wrong.
    pub kind: FailureKind,
    /// Names the file and the cause.
    pub text: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Failure {
        Failure { kind, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FailureKind::Worker => write!(f, "the model's worker failed: {}", self.text),
            _ => write!(f, "the model could not be loaded: {}", self.text),
        }
    }
}

/// What kind of thing keeps a model from being there. Whoever shows a failure goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No model was named, and none was found.
    NoModel,
    /// There is no file where one was named.
    NoSuchFile,
    /// There is something, and the system does not let us read it.
    Unreadable,
    /// The file is not what it says it is: cut short, or its parts contradict each other.
    Damaged,
    /// A sound file of something that is not supported here.
    Unsupported,
    /// Memory, threads or the device cannot be had for it.
    NoRoom,
    /// It was loaded, and what computes with it died.
    Worker,
}

crate::names! {
    pub FailureKind, ALL {
        NoModel => "no_model",
        NoSuchFile => "no_such_file",
        Unreadable => "unreadable",
        Damaged => "damaged",
        Unsupported => "unsupported",
        NoRoom => "no_room",
        Worker => "worker",
    }
}

/// Something that the state does not allow; the message is for the caller of an admin command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {what} while {state}")]
pub struct IllegalTransition {
    /// What was asked for.
    pub what: &'static str,
    /// The state's name.
    pub state: &'static str,
}
