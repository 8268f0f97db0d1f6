//! Quitting as a decision and a flow, without a toolkit: who asks, what runs, and what the system is told.
//!
//! ```text
//!              idle            busy                              draining to exit already
//!  user        end now         drain, visible and cancellable    the drain ends now
//!  system      end now         keep the system waiting, 5 s      keep the system waiting, 5 s
//! ```
//!
//! A user's quit is never answered with "later": AppKit would run a modal loop in which the tray and Cancel Quit may
//! be dead. A logout, restart or shutdown is never cancelled, since that would cancel it for every other app too.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use engine::{After, State, Stats};

/// How long a logout, restart or shutdown is kept waiting.
pub(crate) const SYSTEM_DRAIN: Duration = Duration::from_secs(5);

/// Who wants the app to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The menu, the keyboard, the Dock, a script.
    User,
    /// Logout, restart, shutdown.
    System,
}

/// What a wish to quit leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing runs: end at once.
    Now,
    /// Stay, drain with everything visible, end after it unless it is cancelled.
    Drain(Duration),
    /// Keep the asker waiting for the end of a drain.
    Later(Duration),
}

/// The answer that AppKit waits for; the values are `NSApplicationTerminateReply`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Reply {
    /// `NSTerminateCancel`.
    Cancel = 0,
    /// `NSTerminateNow`.
    Now = 1,
    /// `NSTerminateLater`; [`Host::reply`] must follow.
    Later = 2,
}

/// What quitting means for `asker` in this state; `drain_timeout` is how long a user's drain may last.
pub(crate) fn decide(asker: Asker, state: &State, stats: &Stats, drain_timeout: Duration) -> Decision {
    let is_busy = match state {
        State::Unloaded | State::Loading | State::Failed { .. } | State::Stopped => false,
        State::Ready | State::Parked => stats.n_running + stats.n_waiting > 0,
        // Even without a sequence the store may still be writing.
        State::Draining { .. } => true,
    };
    match (asker, state) {
        _ if !is_busy => Decision::Now,
        (Asker::System, _) => Decision::Later(SYSTEM_DRAIN),
        (Asker::User, State::Draining { then: After::Exit, .. }) => Decision::Drain(Duration::ZERO),
        (Asker::User, _) => Decision::Drain(drain_timeout),
    }
}

/// Who asks, by the reason in the quit Apple event (`kAEQuitReason`), which only the system's own quits carry.
pub(crate) fn asker(reason: Option<[u8; 4]>) -> Asker {
    match reason.as_ref() {
        // "Quit all" comes from a user who stays logged in.
        None | Some(b"quia") => Asker::User,
        // Log out, restart, shut down, with or without a dialogue before them, and what a later system may add:
        // taking an unknown reason for the system's can delay a quit, the other way round could cancel a logout.
        Some(_) => Asker::System,
    }
}

/// What the flow needs from the app around it.
pub(crate) trait Host {
    /// What the engine is doing.
    fn engine(&self) -> (State, Stats);
    /// How long a user's drain may last.
    fn drain_timeout(&self) -> Duration;
    /// Begin a drain to exit, or move the deadline of the one under way.
    fn begin_drain(&self, timeout: Duration);
    /// Give the answer that was promised with [`Reply::Later`]; it is always to go on.
    fn reply(&self);
    /// Call [`Termination::time_is_up`] after this long, whatever the engine does.
    fn wake_after(&self, wait: Duration);
}

/// The part of the application delegate that decides. It lives on the main thread.
#[derive(Debug)]
pub(crate) struct Termination<H> {
    host: H,
    owed: Cell<Owed>,
}

/// The answer promised with [`Reply::Later`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// The drain is asked for; the engine's thread has not got to it yet.
    BeforeDrain,
    /// The drain has been seen under way.
    AfterDrain,
}

/// What the engine may take beyond the deadline: ending what runs and the flush of a bounded queue.
const GRACE: Duration = Duration::from_secs(3);

impl<H: Host> Termination<H> {
    /// Nobody has asked yet.
    pub(crate) fn new(host: H) -> Termination<H> {
        Termination { host, owed: Cell::new(Owed::Nothing) }
    }

    /// `applicationShouldTerminate:`. A panic inside answers that the app may end: unwinding into Objective-C would
    /// abort, and an app that cannot be quit is worse than a drain that is cut short.
    pub(crate) fn should_terminate(&self, asker: Asker) -> Reply {
        catch_unwind(AssertUnwindSafe(|| self.answer(asker))).unwrap_or(Reply::Now)
    }

    fn answer(&self, asker: Asker) -> Reply {
        let (state, stats) = self.host.engine();
        match decide(asker, &state, &stats, self.host.drain_timeout()) {
            Decision::Now => Reply::Now,
            Decision::Drain(timeout) => {
                self.host.begin_drain(timeout);
                Reply::Cancel
            }
            Decision::Later(timeout) => {
                self.host.begin_drain(timeout);
                self.host.wake_after(timeout + GRACE);
                self.owed.set(Owed::BeforeDrain);
                Reply::Later
            }
        }
    }

    /// The engine's state has changed: pay a promised answer as soon as the drain is over, however it ended.
    /// A drain that somebody cancels over HTTP meanwhile does not cancel the shutdown.
    pub(crate) fn state_changed(&self) {
        let state = catch_unwind(AssertUnwindSafe(|| self.host.engine().0)).unwrap_or(State::Stopped);
        match (self.owed.get(), state) {
            (Owed::Nothing, _) => {}
            (Owed::BeforeDrain, State::Draining { then: After::Exit, .. }) => self.owed.set(Owed::AfterDrain),
            (Owed::AfterDrain, State::Draining { then: After::Exit, .. }) => {}
            (Owed::AfterDrain, _) | (Owed::BeforeDrain, State::Stopped) => self.pay(),
            (Owed::BeforeDrain, _) => {}
        }
    }

    /// The system has waited long enough: an engine that hangs must not hold up a shutdown.
    pub(crate) fn time_is_up(&self) {
        self.pay();
    }

    fn pay(&self) {
        if self.owed.replace(Owed::Nothing) != Owed::Nothing {
            self.host.reply();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::time::Instant;

    use engine::FailureCause;

    const USERS: Duration = Duration::from_secs(30);

    fn draining(then: After) -> State {
        State::Draining { then, deadline: Instant::now() }
    }

    #[test]
    fn quitting_means_what_the_table_says() {
        let states = [
            ("unloaded", State::Unloaded),
            ("loading", State::Loading),
            ("ready", State::Ready),
            ("draining to swap", draining(After::Swap)),
            ("draining to park", draining(After::Park)),
            ("draining to exit", draining(After::Exit)),
            ("parked", State::Parked),
            ("failed", State::Failed { cause: FailureCause::Load("no such file".into()) }),
            ("stopped", State::Stopped),
        ];
        let mut table = String::new();
        for (name, state) in &states {
            for (n_running, n_waiting) in [(0, 0), (1, 0), (0, 1)] {
                let stats = Stats { n_running, n_waiting, ..Stats::default() };
                let user = format!("{:?}", decide(Asker::User, state, &stats, USERS));
                let system = decide(Asker::System, state, &stats, USERS);
                table += &format!("{name:<17}{n_running} {n_waiting}  {user:<11} {system:?}\n");
            }
        }
        let want = "\
unloaded         0 0  Now         Now
unloaded         1 0  Now         Now
unloaded         0 1  Now         Now
loading          0 0  Now         Now
loading          1 0  Now         Now
loading          0 1  Now         Now
ready            0 0  Now         Now
ready            1 0  Drain(30s)  Later(5s)
ready            0 1  Drain(30s)  Later(5s)
draining to swap 0 0  Drain(30s)  Later(5s)
draining to swap 1 0  Drain(30s)  Later(5s)
draining to swap 0 1  Drain(30s)  Later(5s)
draining to park 0 0  Drain(30s)  Later(5s)
draining to park 1 0  Drain(30s)  Later(5s)
draining to park 0 1  Drain(30s)  Later(5s)
draining to exit 0 0  Drain(0ns)  Later(5s)
draining to exit 1 0  Drain(0ns)  Later(5s)
draining to exit 0 1  Drain(0ns)  Later(5s)
parked           0 0  Now         Now
parked           1 0  Drain(30s)  Later(5s)
parked           0 1  Drain(30s)  Later(5s)
failed           0 0  Now         Now
failed           1 0  Now         Now
failed           0 1  Now         Now
stopped          0 0  Now         Now
stopped          1 0  Now         Now
stopped          0 1  Now         Now
";
        assert_eq!(table, want, "the table now reads:\n{table}");
    }

    #[test]
    fn only_the_systems_own_quits_carry_a_reason() {
        assert_eq!(asker(None), Asker::User);
        assert_eq!(asker(Some(*b"quia")), Asker::User);
        for reason in [b"logo", b"rlgo", b"rrst", b"rest", b"rsdn", b"shut", b"new!"] {
            assert_eq!(asker(Some(*reason)), Asker::System, "{reason:?}");
        }
    }

    /// An application whose delegate is [`Termination`]: what AppKit does with the answers, and what it is sent.
    #[derive(Default)]
    struct FakeApp {
        engine: RefCell<Option<(State, Stats)>>,
        log: RefCell<Vec<String>>,
    }

    impl FakeApp {
        fn delegate(state: State, n_running: usize) -> Termination<FakeApp> {
            let delegate = Termination::new(FakeApp::default());
            delegate.host.engine_is(state, n_running);
            delegate
        }

        fn engine_is(&self, state: State, n_running: usize) {
            let stats = Stats { n_running, ..Stats::default() };
            *self.engine.borrow_mut() = Some((state, stats));
        }

        fn log(&self) -> String {
            self.log.take().join(", ")
        }
    }

    impl Host for FakeApp {
        fn engine(&self) -> (State, Stats) {
            self.engine.borrow().clone().expect("the engine has died")
        }

        fn drain_timeout(&self) -> Duration {
            USERS
        }

        fn begin_drain(&self, timeout: Duration) {
            self.log.borrow_mut().push(format!("drain within {timeout:?}"));
            let (_, stats) = self.engine();
            self.engine_is(draining(After::Exit), stats.n_running);
        }

        fn reply(&self) {
            self.log.borrow_mut().push("go on".to_owned());
        }

        fn wake_after(&self, wait: Duration) {
            self.log.borrow_mut().push(format!("wake after {wait:?}"));
        }
    }

    #[test]
    fn an_idle_app_ends_at_once() {
        let delegate = FakeApp::delegate(State::Ready, 0);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Now);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Now);
        assert_eq!(delegate.host.log(), "");
    }

    #[test]
    fn a_busy_app_that_its_user_quits_stays_drains_and_may_end_then() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.host.log(), "drain within 30s");
        delegate.host.engine_is(State::Stopped, 0);
        delegate.state_changed();
        assert_eq!(delegate.host.log(), "", "nobody waits for an answer");
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Now);
    }

    #[test]
    fn quitting_twice_ends_the_drain() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.host.log(), "drain within 30s, drain within 0ns");
    }

    #[test]
    fn a_cancelled_quit_leaves_nothing_behind() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        delegate.host.engine_is(State::Ready, 2);
        delegate.state_changed();
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.host.log(), "drain within 30s, drain within 30s");
    }

    #[test]
    fn a_shutdown_waits_for_a_short_drain_and_gets_one_answer() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        delegate.host.engine_is(State::Ready, 2);
        delegate.state_changed();
        delegate.host.engine_is(draining(After::Exit), 2);
        delegate.state_changed();
        delegate.state_changed();
        assert_eq!(delegate.host.log(), "drain within 5s, wake after 8s", "the drain is not over");
        delegate.host.engine_is(State::Stopped, 0);
        delegate.state_changed();
        delegate.state_changed();
        delegate.time_is_up();
        assert_eq!(delegate.host.log(), "go on");
    }

    #[test]
    fn a_shutdown_goes_on_when_the_engine_hangs() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        delegate.time_is_up();
        assert_eq!(delegate.host.log(), "drain within 5s, wake after 8s, go on");
    }

    #[test]
    fn a_shutdown_during_a_users_drain_shortens_it() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        assert_eq!(delegate.host.log(), "drain within 30s, drain within 5s, wake after 8s");
    }

    #[test]
    fn a_shutdown_goes_on_when_somebody_cancels_the_drain() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        delegate.state_changed();
        delegate.host.engine_is(State::Ready, 2);
        delegate.state_changed();
        assert_eq!(delegate.host.log(), "drain within 5s, wake after 8s, go on");
    }

    #[test]
    fn a_panic_inside_lets_the_app_end() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        delegate.host.engine.take();
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Now);
        delegate.state_changed();
        assert_eq!(
            delegate.host.log(),
            "drain within 5s, wake after 8s, go on",
            "what was promised is given all the same"
        );
    }
}
