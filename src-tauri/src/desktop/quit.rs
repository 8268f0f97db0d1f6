//! What quitting means, by who asks and what runs. Pure, so that every platform's hooks decide alike.

use std::time::Duration;

use engine::{After, State, Stats};

/// What the system gives an app at its own end.
const SYSTEMS_PATIENCE: Duration = Duration::from_secs(5);

/// Who asks the app to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The user: a menu, a key, a signal, the window.
    User,
    /// Logout, restart or shutdown. It is never refused.
    System,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quit {
    /// Nothing runs: the drain is over as soon as it has begun, so say yes.
    Now,
    /// Say no for now, drain with everything visible, and end ourselves afterwards.
    CancelAndDrain(Duration),
    /// Say later, drain, and then say yes.
    Later(Duration),
}

/// Whether ending now would end something before its time.
pub(crate) fn is_busy(state: &State, stats: &Stats) -> bool {
    match state {
        State::Ready => stats.n_running + stats.n_waiting > 0,
        State::Draining { .. } => true,
        State::Unloaded | State::Loading | State::Parked | State::Failed(_) | State::Stopped => false,
    }
}

/// Decide. `drain_timeout` is the user's setting; a second quit of the user moves the deadline to now.
pub(crate) fn decide(asker: Asker, state: &State, stats: &Stats, drain_timeout: Duration) -> Quit {
    match (asker, state) {
        _ if !is_busy(state, stats) => Quit::Now,
        (Asker::System, _) => Quit::Later(drain_timeout.min(SYSTEMS_PATIENCE)),
        (Asker::User, State::Draining { then: After::Exit, .. }) => Quit::CancelAndDrain(Duration::ZERO),
        (Asker::User, _) => Quit::CancelAndDrain(drain_timeout),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use engine::{Failure, FailureKind};

    use super::*;

    #[test]
    fn idle_ends_now_the_user_waits_for_what_runs_and_the_system_is_never_refused() {
        let timeout = Duration::from_secs(30);
        let idle = Stats::default();
        let running = Stats { n_running: 1, ..Stats::default() };
        let waiting = Stats { n_waiting: 2, ..Stats::default() };
        let draining = |then| State::Draining { then, deadline: Instant::now() };
        let failed = State::Failed(Failure::new(FailureKind::NoSuchFile, "gone"));
        let (wait, now) = (Quit::CancelAndDrain(timeout), Quit::CancelAndDrain(Duration::ZERO));
        let later = Quit::Later(Duration::from_secs(5));
        let rows = [
            (State::Unloaded, &idle, Quit::Now, Quit::Now),
            (State::Loading, &idle, Quit::Now, Quit::Now),
            (State::Ready, &idle, Quit::Now, Quit::Now),
            (State::Ready, &running, wait, later),
            (State::Ready, &waiting, wait, later),
            (draining(After::Park), &running, wait, later),
            (draining(After::Exit), &running, now, later),
            (draining(After::Exit), &idle, now, later),
            (State::Parked, &idle, Quit::Now, Quit::Now),
            (failed, &idle, Quit::Now, Quit::Now),
            (State::Stopped, &idle, Quit::Now, Quit::Now),
        ];
        for (state, stats, user, system) in rows {
            assert_eq!(decide(Asker::User, &state, stats, timeout), user, "user, {state:?}");
            assert_eq!(decide(Asker::System, &state, stats, timeout), system, "system, {state:?}");
        }
    }

    #[test]
    fn the_system_waits_no_longer_than_the_user_would() {
        let running = Stats { n_running: 1, ..Stats::default() };
        let short = Duration::from_secs(2);
        assert_eq!(decide(Asker::System, &State::Ready, &running, short), Quit::Later(short));
    }
}
