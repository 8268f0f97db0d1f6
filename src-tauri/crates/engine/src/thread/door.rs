//! The server's side of its lifecycle, with what belongs to where it stands.

use std::time::Instant;

use crate::lifecycle::{Drain, ServerTransition};
use crate::told::state::{After, ServerState};

/// Whether requests come in; its [`ServerState`] follows from it.
pub(super) enum Door {
    Open,
    Draining { then: After, deadline: Instant, drain: Drain },
    Parked,
    Stopped,
}

impl Door {
    pub(super) fn state(&self) -> ServerState {
        match self {
            Door::Open => ServerState::Open,
            Door::Draining { then, deadline, .. } => {
                ServerState::Draining { then: *then, deadline: *deadline }
            }
            Door::Parked => ServerState::Parked,
            Door::Stopped => ServerState::Stopped,
        }
    }

    /// Go where `transition` leads, which is legal; `begin` makes the drain that begins. The drain that ends comes
    /// back.
    pub(super) fn follow(
        &mut self,
        transition: &ServerTransition,
        begin: impl FnOnce() -> Drain,
    ) -> Option<Drain> {
        let to = self.state().after(transition)?;
        let old = std::mem::replace(self, Door::Stopped);
        let (drain, door) = match (old, to) {
            (Door::Draining { drain, .. }, ServerState::Draining { then, deadline }) => {
                (None, Door::Draining { then, deadline, drain })
            }
            (_, ServerState::Draining { then, deadline }) => {
                (None, Door::Draining { then, deadline, drain: begin() })
            }
            (old, ServerState::Open) => (old.into_drain(), Door::Open),
            (old, ServerState::Parked) => (old.into_drain(), Door::Parked),
            (old, ServerState::Stopped) => (old.into_drain(), Door::Stopped),
        };
        *self = door;
        drain
    }

    fn into_drain(self) -> Option<Drain> {
        match self {
            Door::Draining { drain, .. } => Some(drain),
            Door::Open | Door::Parked | Door::Stopped => None,
        }
    }
}
