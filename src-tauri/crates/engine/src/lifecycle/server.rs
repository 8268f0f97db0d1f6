//! The server's lifecycle: whether it takes requests at all.

use std::time::Instant;

use crate::told::state::{After, ServerState};

/// What can happen to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTransition {
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
}

impl ServerTransition {
    /// What was asked for, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            ServerTransition::Drain { .. } => "drain",
            ServerTransition::Drained => "finish draining",
            ServerTransition::Resume => "resume",
        }
    }
}

impl ServerState {
    /// Where `transition` leads from here, if it is legal. A drain to exit is legal everywhere, so that quitting
    /// never has to wait for anything.
    pub fn after(&self, transition: &ServerTransition) -> Option<ServerState> {
        use ServerState::{Draining, Open, Parked, Stopped};
        match (*self, *transition) {
            (Open, ServerTransition::Drain { then, deadline })
            | (Parked, ServerTransition::Drain { then: then @ After::Exit, deadline }) => {
                Some(Draining { then, deadline })
            }
            (Draining { then, deadline }, ServerTransition::Drain { then: other, deadline: new }) => {
                Some(Draining { then: then.max(other), deadline: deadline.min(new) })
            }
            (Parked, ServerTransition::Drain { then: After::Park, .. }) => Some(Parked),
            (Stopped, ServerTransition::Drain { then: After::Exit, .. }) => Some(Stopped),
            (Draining { then: After::Park, .. }, ServerTransition::Drained) => Some(Parked),
            (Draining { then: After::Exit, .. }, ServerTransition::Drained) => Some(Stopped),
            (Draining { .. } | Parked, ServerTransition::Resume) => Some(Open),
            (Open | Parked | Stopped, ServerTransition::Drained)
            | (Open | Stopped, ServerTransition::Resume)
            | (Stopped, ServerTransition::Drain { then: After::Park, .. }) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Every state against every transition, one line each; a state or a transition that is added shows up here.
    #[test]
    fn every_transition_from_every_state_leads_where_the_table_says() {
        let t0 = Instant::now();
        let at = |secs| t0 + Duration::from_secs(secs);
        let draining = |then| ServerState::Draining { then, deadline: at(20) };
        let states = [
            ServerState::Open,
            draining(After::Park),
            draining(After::Exit),
            ServerState::Parked,
            ServerState::Stopped,
        ];
        let drain = |then, secs| ServerTransition::Drain { then, deadline: at(secs) };
        let transitions = [
            drain(After::Park, 10),
            drain(After::Park, 30),
            drain(After::Exit, 10),
            drain(After::Exit, 30),
            ServerTransition::Drained,
            ServerTransition::Resume,
        ];
        let timed =
            |what: &str, then: After, at: Instant| format!("{what}-{}-{}", then.name(), (at - t0).as_secs());
        let show = |state: &ServerState| match state {
            ServerState::Draining { then, deadline } => timed("draining", *then, *deadline),
            other => format!("{other:?}").to_lowercase(),
        };
        let show_transition = |transition: &ServerTransition| match transition {
            ServerTransition::Drain { then, deadline } => timed("drain", *then, *deadline),
            other => other.name().replace(' ', "-"),
        };
        let mut table = String::new();
        for state in &states {
            for transition in &transitions {
                let to = state.after(transition).map_or("-".to_owned(), |state| show(&state));
                table += &format!("{:<17} {:<15} {to}\n", show(state), show_transition(transition));
            }
        }
        assert_eq!(table, include_str!("server_table.txt"), "the table now reads:\n{table}");
    }
}
