//! Two lifecycles as data: the server's and each model's. Two pure, total tables; the engine thread is the only one
//! who follows them, and everything else is a function of where they stand.
//!
//! ```text
//! server   Open ──drain{then}──▶ Draining{then, deadline} ──▶ Parked ──resume──▶ Open
//!                                     └──resume──▶ Open       └─▶ Stopped
//! model    Absent ──load──▶ Loading ──▶ Ready ──leave──▶ Leaving{deadline} ──▶ Absent
//!                              └──▶ Failed ◀── fail ──┘        (Failed ──load──▶ Loading)
//! ```

mod drain;
mod model;
mod server;

pub(crate) use drain::{Drain, Flush};
pub use model::ModelTransition;
pub use server::ServerTransition;

use crate::told::state::{ModelState, ServerState, State};

/// What the users of a model in this state see of a server in that one.
pub fn state_of(server: &ServerState, model: &ModelState) -> State {
    match (server, model) {
        (ServerState::Stopped, _) => State::Stopped,
        (ServerState::Draining { then, deadline }, _) => State::Draining { then: *then, deadline: *deadline },
        // That nothing would be admitted after a resume either is what matters to whoever looks.
        (ServerState::Open | ServerState::Parked, ModelState::Failed(failure)) => {
            State::Failed(failure.clone())
        }
        (ServerState::Parked, _) => State::Parked,
        (ServerState::Open, ModelState::Absent | ModelState::Leaving { .. }) => State::Unloaded,
        (ServerState::Open, ModelState::Loading) => State::Loading,
        (ServerState::Open, ModelState::Ready) => State::Ready,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::told::state::{After, Failure, FailureKind};

    #[test]
    fn what_users_see_follows_from_both_lifecycles() {
        let deadline = Instant::now() + Duration::from_secs(20);
        let draining = |then| ServerState::Draining { then, deadline };
        let servers = [
            ServerState::Open,
            draining(After::Park),
            draining(After::Exit),
            ServerState::Parked,
            ServerState::Stopped,
        ];
        let models = [
            ModelState::Absent,
            ModelState::Loading,
            ModelState::Ready,
            ModelState::Leaving { deadline },
            ModelState::Failed(Failure::new(FailureKind::Damaged, "x")),
        ];
        let names: Vec<Vec<&str>> = servers
            .iter()
            .map(|server| models.iter().map(|model| state_of(server, model).name()).collect())
            .collect();
        assert_eq!(
            names,
            [
                ["unloaded", "loading", "ready", "unloaded", "failed"],
                ["draining"; 5],
                ["draining"; 5],
                ["parked", "parked", "parked", "parked", "failed"],
                ["stopped"; 5],
            ]
        );
    }
}
