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

/// What a drain leads to. Of two drains the greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// Load another model.
    Swap,
    /// Stay up, admit nothing until resumed.
    Park,
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
    /// Admit again as soon as the model is there: the drain was cancelled before loading had ended.
    ResumeLoading,
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

/// Where `transition` leads from `state`.
///
/// A drain to exit is legal everywhere, so that quitting never has to wait for anything; parking and swapping need
/// something to drain. What fails while the engine drains does not end the drain; it is dealt with afterwards.
/// The weights may come in while draining or parked: they are kept, and the state stays.
///
/// # Errors
/// The state does not allow the transition.
pub fn next(state: &State, transition: &Transition) -> Result<State, IllegalTransition> {
    let next = match (state, transition) {
        (State::Unloaded | State::Failed { .. }, Transition::Load) => State::Loading,

        (State::Loading, Transition::Loaded) => State::Ready,
        (State::Draining { .. } | State::Parked, Transition::Loaded) => state.clone(),

        (
            State::Draining { then, deadline },
            Transition::Drain { then: new_then, deadline: new_deadline },
        ) => State::Draining { then: *then.max(new_then), deadline: *deadline.min(new_deadline) },
        (State::Stopped, Transition::Drain { then: After::Exit, .. }) => State::Stopped,
        (State::Parked, Transition::Drain { then: After::Park, .. }) => State::Parked,
        (
            State::Unloaded | State::Loading | State::Ready | State::Parked | State::Failed { .. },
            Transition::Drain { then: then @ After::Exit, deadline },
        )
        | (
            State::Loading | State::Ready | State::Parked,
            Transition::Drain { then: then @ (After::Park | After::Swap), deadline },
        ) => State::Draining { then: *then, deadline: *deadline },

        (State::Draining { then, .. }, Transition::Drained) => match then {
            After::Park => State::Parked,
            After::Swap => State::Loading,
            After::Exit => State::Stopped,
        },

        (State::Draining { .. } | State::Parked, Transition::Resume) => State::Ready,
        (State::Draining { .. } | State::Parked, Transition::ResumeLoading) => State::Loading,

        (State::Draining { .. }, Transition::Fail(_)) => state.clone(),
        (
            State::Unloaded | State::Loading | State::Ready | State::Parked | State::Failed { .. },
            Transition::Fail(cause),
        ) => State::Failed { cause: cause.clone() },

        _ => return Err(IllegalTransition { what: transition.name(), state: state.name() }),
    };
    Ok(next)
}

impl Transition {
    /// One lower-case word, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Transition::Load => "load",
            Transition::Loaded => "take a loaded model",
            Transition::Drain { .. } => "drain",
            Transition::Drained => "finish draining",
            Transition::Resume | Transition::ResumeLoading => "resume",
            Transition::Fail(_) => "fail",
        }
    }
}

impl State {
    /// The names of all states, in the order of their declaration.
    pub const NAMES: [&'static str; 7] =
        ["unloaded", "loading", "ready", "draining", "parked", "failed", "stopped"];

    /// One lower-case word, out of [`State::NAMES`].
    pub fn name(&self) -> &'static str {
        let at = match self {
            State::Unloaded => 0,
            State::Loading => 1,
            State::Ready => 2,
            State::Draining { .. } => 3,
            State::Parked => 4,
            State::Failed { .. } => 5,
            State::Stopped => 6,
        };
        State::NAMES[at]
    }
}

impl After {
    /// One lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            After::Swap => "swap",
            After::Park => "park",
            After::Exit => "exit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Every state against every transition, one line each; a state or a transition that is added shows up here.
    #[test]
    fn every_transition_from_every_state_leads_where_the_table_says() {
        let t0 = Instant::now();
        let at = |secs| t0 + Duration::from_secs(secs);
        let cause = |text: &str| FailureCause::Load(text.to_owned());
        let states = [
            State::Unloaded,
            State::Loading,
            State::Ready,
            State::Draining { then: After::Swap, deadline: at(20) },
            State::Draining { then: After::Park, deadline: at(20) },
            State::Draining { then: After::Exit, deadline: at(20) },
            State::Parked,
            State::Failed { cause: cause("old") },
            State::Stopped,
        ];
        let drain = |then, secs| Transition::Drain { then, deadline: at(secs) };
        let transitions = [
            Transition::Load,
            Transition::Loaded,
            drain(After::Swap, 10),
            drain(After::Park, 10),
            drain(After::Park, 30),
            drain(After::Exit, 10),
            drain(After::Exit, 30),
            Transition::Drained,
            Transition::Resume,
            Transition::ResumeLoading,
            Transition::Fail(cause("new")),
        ];
        let show_state = |state: &State| match state {
            State::Draining { then, deadline } => {
                format!("draining-{}-{}", format!("{then:?}").to_lowercase(), (*deadline - t0).as_secs())
            }
            State::Failed { cause: FailureCause::Load(text) } => format!("failed-{text}"),
            other => other.name().to_owned(),
        };
        let show_transition = |transition: &Transition| match transition {
            Transition::Drain { then, deadline } => {
                format!("drain-{}-{}", format!("{then:?}").to_lowercase(), (*deadline - t0).as_secs())
            }
            Transition::ResumeLoading => "resume-loading".to_owned(),
            other => other.name().replace(' ', "-"),
        };
        let mut table = String::new();
        for state in &states {
            for transition in &transitions {
                let to = match next(state, transition) {
                    Ok(state) => show_state(&state),
                    Err(illegal) => {
                        assert_eq!((illegal.what, illegal.state), (transition.name(), state.name()));
                        "-".to_owned()
                    }
                };
                table += &format!("{:<18} {:<20} {to}\n", show_state(state), show_transition(transition));
            }
        }
        assert_eq!(table, include_str!("lifecycle_table.txt"), "the table now reads:\n{table}");
    }
}
