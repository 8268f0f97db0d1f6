//! The application delegate's part in quitting, without Objective-C: what AppKit is answered, and when a promised
//! answer is given.
//!
//! ```text
//!              idle            busy                              draining to exit already
//!  user        now             cancel; drain, visible            cancel; the drain ends now
//!  system      now             later; drain, 5 s at most         later; drain, 5 s at most
//! ```
//!
//! A user's quit is never answered with "later": AppKit would run a modal loop in which the tray and Cancel Quit may
//! be dead. A logout, restart or shutdown is never cancelled, since that would cancel it for every other app too.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use engine::{After, State, Stats};

use super::quit::{Asker, Quit, decide};

/// The answer that AppKit waits for; the values are `NSApplicationTerminateReply`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Reply {
    /// `NSTerminateCancel`.
    Cancel = 0,
    /// `NSTerminateNow`.
    Now = 1,
    /// `NSTerminateLater`; [`Surroundings::reply`] must follow.
    Later = 2,
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
pub(crate) trait Surroundings {
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
pub(crate) struct Termination<S> {
    around: S,
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

impl<S: Surroundings> Termination<S> {
    /// Nobody has asked yet.
    pub(crate) fn new(around: S) -> Termination<S> {
        Termination { around, owed: Cell::new(Owed::Nothing) }
    }

    /// `applicationShouldTerminate:`. A panic inside answers that the app may end: unwinding into Objective-C would
    /// abort, and an app that cannot be quit is worse than a drain that is cut short.
    pub(crate) fn should_terminate(&self, asker: Asker) -> Reply {
        catch_unwind(AssertUnwindSafe(|| self.answer(asker))).unwrap_or(Reply::Now)
    }

    fn answer(&self, asker: Asker) -> Reply {
        let (state, stats) = self.around.engine();
        match decide(asker, &state, &stats, self.around.drain_timeout()) {
            Quit::Now => Reply::Now,
            Quit::CancelAndDrain(timeout) => {
                self.around.begin_drain(timeout);
                Reply::Cancel
            }
            Quit::Later(timeout) => {
                self.around.begin_drain(timeout);
                self.around.wake_after(timeout + GRACE);
                self.owed.set(Owed::BeforeDrain);
                Reply::Later
            }
        }
    }

    /// The engine's state has changed: pay a promised answer as soon as the drain is over, however it ended.
    /// A drain that somebody cancels over HTTP meanwhile does not cancel the shutdown.
    pub(crate) fn state_changed(&self) {
        let state = catch_unwind(AssertUnwindSafe(|| self.around.engine().0)).unwrap_or(State::Stopped);
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
            self.around.reply();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::time::Instant;

    const USERS: Duration = Duration::from_secs(30);

    fn draining(then: After) -> State {
        State::Draining { then, deadline: Instant::now() }
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
            delegate.around.engine_is(state, n_running);
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

    impl Surroundings for FakeApp {
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
        assert_eq!(delegate.around.log(), "");
    }

    #[test]
    fn a_busy_app_that_its_user_quits_stays_drains_and_may_end_then() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.around.log(), "drain within 30s");
        delegate.around.engine_is(State::Stopped, 0);
        delegate.state_changed();
        assert_eq!(delegate.around.log(), "", "nobody waits for an answer");
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Now);
    }

    #[test]
    fn quitting_twice_ends_the_drain() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.around.log(), "drain within 30s, drain within 0ns");
    }

    #[test]
    fn a_cancelled_quit_leaves_nothing_behind() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        delegate.around.engine_is(State::Ready, 2);
        delegate.state_changed();
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.around.log(), "drain within 30s, drain within 30s");
    }

    #[test]
    fn a_shutdown_waits_for_a_short_drain_and_gets_one_answer() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        delegate.around.engine_is(State::Ready, 2);
        delegate.state_changed();
        delegate.around.engine_is(draining(After::Exit), 2);
        delegate.state_changed();
        delegate.state_changed();
        assert_eq!(delegate.around.log(), "drain within 5s, wake after 8s", "the drain is not over");
        delegate.around.engine_is(State::Stopped, 0);
        delegate.state_changed();
        delegate.state_changed();
        delegate.time_is_up();
        assert_eq!(delegate.around.log(), "go on");
    }

    #[test]
    fn a_shutdown_goes_on_when_the_engine_hangs() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        delegate.time_is_up();
        assert_eq!(delegate.around.log(), "drain within 5s, wake after 8s, go on");
    }

    #[test]
    fn a_shutdown_during_a_users_drain_shortens_it() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Cancel);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        assert_eq!(delegate.around.log(), "drain within 30s, drain within 5s, wake after 8s");
    }

    #[test]
    fn a_shutdown_goes_on_when_somebody_cancels_the_drain() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        delegate.state_changed();
        delegate.around.engine_is(State::Ready, 2);
        delegate.state_changed();
        assert_eq!(delegate.around.log(), "drain within 5s, wake after 8s, go on");
    }

    #[test]
    fn a_panic_inside_lets_the_app_end() {
        let delegate = FakeApp::delegate(State::Ready, 2);
        assert_eq!(delegate.should_terminate(Asker::System), Reply::Later);
        delegate.around.engine.take();
        assert_eq!(delegate.should_terminate(Asker::User), Reply::Now);
        delegate.state_changed();
        assert_eq!(
            delegate.around.log(),
            "drain within 5s, wake after 8s, go on",
            "what was promised is given all the same"
        );
    }
}
