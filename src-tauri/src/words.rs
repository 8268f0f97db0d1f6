//! What users read of the engine's states and failures, and what they are offered: one table, from which the tray's
//! menu is made and, by `words/page.rs`, the page's.

#[cfg(test)]
mod page;

use engine::{After, Backend, FailureKind, GpuRefusalKind, NotReadyReason, Readiness, State};

/// What users see the server do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    NoModel,
    Loading,
    Ready,
    Answering,
    NearlyFull,
    NotResponding,
    Finishing,
    Pausing,
    Paused,
    Failed,
    Quit,
}

engine::names! {
    pub(crate) Condition, ALL {
        NoModel => "no_model",
        Loading => "loading",
        Ready => "ready",
        Answering => "answering",
        NearlyFull => "nearly_full",
        NotResponding => "not_responding",
        Finishing => "finishing",
        Pausing => "pausing",
        Paused => "paused",
        Failed => "failed",
        Quit => "quit",
    }
}

/// Tells conditions apart by shape; colour only repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Ready,
    Busy,
    Starting,
    Finishing,
    Paused,
    Failed,
    Away,
}

engine::names! {
    pub(crate) Mark {
        Ready => "ready",
        Busy => "busy",
        Starting => "starting",
        Finishing => "finishing",
        Paused => "paused",
        Failed => "failed",
        Away => "away",
    }
}

/// A way out of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Retry,
    OpenLogs,
    QuitNow,
    CancelQuit,
    PauseNow,
    Resume,
}

engine::names! {
    pub(crate) Offer, ALL {
        Retry => "retry",
        OpenLogs => "open_logs",
        QuitNow => "quit_now",
        CancelQuit => "cancel_quit",
        PauseNow => "pause_now",
        Resume => "resume",
    }
}

/// What is said of a condition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words {
    pub(crate) mark: Mark,
    pub(crate) word: &'static str,
    /// The last one is what most will want.
    pub(crate) offers: &'static [Offer],
}

/// What is said of a failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FailureWords {
    /// What has happened.
    pub(crate) what: &'static str,
    /// What that means, and what can be done.
    #[cfg_attr(not(test), expect(dead_code, reason = "a menu has no place for it; the page has"))]
    pub(crate) meaning: &'static str,
}

/// What a drain is said to be doing; `{}` is the number.
pub(crate) const FINISHING_NOTHING: &str = "Finishing";
pub(crate) const FINISHING_ONE: &str = "Finishing {} request";
pub(crate) const FINISHING_MANY: &str = "Finishing {} requests";
pub(crate) const LEFT: &str = "{} left";
pub(crate) const SAVING: &str = "saving {}";

impl Condition {
    /// What users see of `state`, where `readiness` is what is said of it and `n_running` sequences have rows in steps.
    pub(crate) fn of(state: &State, readiness: &Readiness, n_running: usize) -> Condition {
        match (state, readiness) {
            (State::Unloaded, _) => Condition::NoModel,
            (State::Loading, _) => Condition::Loading,
            (State::Ready, Readiness::NotReady(why)) => match why.reason() {
                NotReadyReason::PoolNearExhaustion => Condition::NearlyFull,
                // The others are of other states.
                NotReadyReason::EngineStalled
                | NotReadyReason::NoModel
                | NotReadyReason::ModelLoading
                | NotReadyReason::ShuttingDown
                | NotReadyReason::Parked
                | NotReadyReason::EngineFailed => Condition::NotResponding,
            },
            (State::Ready, Readiness::Ready { .. }) if n_running > 0 => Condition::Answering,
            (State::Ready, Readiness::Ready { .. }) => Condition::Ready,
            (State::Draining { then: After::Exit, .. }, _) => Condition::Finishing,
            (State::Draining { then: After::Park, .. }, _) => Condition::Pausing,
            (State::Parked, _) => Condition::Paused,
            (State::Failed(_), _) => Condition::Failed,
            (State::Stopped, _) => Condition::Quit,
        }
    }

    /// What is said of it.
    pub(crate) fn words(self) -> Words {
        let say = |mark, word, offers| Words { mark, word, offers };
        match self {
            Condition::NoModel => say(Mark::Away, "No model", &[]),
            // How far follows.
            Condition::Loading => say(Mark::Starting, "Loading", &[]),
            Condition::Ready => say(Mark::Ready, "Ready", &[]),
            Condition::Answering => say(Mark::Busy, "Answering", &[]),
            Condition::NearlyFull => say(Mark::Busy, "Memory nearly full", &[]),
            Condition::NotResponding => say(Mark::Failed, "Not responding", &[]),
            Condition::Finishing => say(Mark::Finishing, "Finishing", &[Offer::QuitNow, Offer::CancelQuit]),
            Condition::Pausing => say(Mark::Finishing, "Finishing", &[Offer::PauseNow, Offer::Resume]),
            Condition::Paused => say(Mark::Paused, "Paused", &[Offer::Resume]),
            Condition::Failed => say(Mark::Failed, "Failed", &[Offer::OpenLogs, Offer::Retry]),
            Condition::Quit => say(Mark::Away, "Quit", &[]),
        }
    }
}

impl Offer {
    /// What its button says.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Offer::Retry => "Retry",
            Offer::OpenLogs => "Open Logs",
            Offer::QuitNow => "Quit Now",
            Offer::CancelQuit => "Cancel Quit",
            Offer::PauseNow => "Pause Now",
            Offer::Resume => "Resume",
        }
    }
}

/// What is said of a failure of this kind.
pub(crate) fn of_failure(kind: FailureKind) -> FailureWords {
    const READ_AGAIN: &str = "Your chat is kept. Retry reads the file again.";
    let say = |what, meaning| FailureWords { what, meaning };
    match kind {
        FailureKind::NoModel => say(
            "There is no model.",
            "Your chat is kept. Put a GGUF file into the models folder; Retry looks there again.",
        ),
        FailureKind::NoSuchFile => say("The model’s file is not there.", READ_AGAIN),
        FailureKind::Unreadable => say("The model’s file cannot be read.", READ_AGAIN),
        FailureKind::Damaged => say("The model’s file is damaged or no GGUF file.", READ_AGAIN),
        FailureKind::Unsupported => say("This kind of model is not supported.", READ_AGAIN),
        FailureKind::NoRoom => say("The model does not fit the settings or the memory.", READ_AGAIN),
        FailureKind::Worker => {
            say("The model stopped working.", "Your chat is kept. Retry loads the model again.")
        }
    }
}

/// Where a model runs.
#[cfg_attr(not(test), expect(dead_code, reason = "the page says it"))]
pub(crate) fn of_backend(backend: Backend) -> &'static str {
    match backend {
        Backend::Cpu => "On the CPU",
        Backend::Metal => "On the GPU",
    }
}

/// What is said of a GPU that does not serve.
#[cfg_attr(not(any(test, feature = "desktop")), expect(dead_code, reason = "tray and page say it"))]
pub(crate) fn of_gpu_refusal(kind: GpuRefusalKind) -> &'static str {
    match kind {
        GpuRefusalKind::Unusable => "On the CPU: the GPU cannot be used",
        GpuRefusalKind::KvFormat => "On the CPU: the GPU does not keep context as the settings say",
        GpuRefusalKind::Model => "On the CPU: the GPU lacks a part of this model",
        GpuRefusalKind::NoRoom => "On the CPU: the model cannot be put on the GPU",
        GpuRefusalKind::Broke => "On the CPU: the GPU failed when it was tried",
        GpuRefusalKind::Wrong => "On the CPU: the GPU computed wrong numbers when it was tried",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use engine::{Failure, NotReady};

    use super::*;

    /// The page's `conditionOf` has the same table in its tests.
    #[test]
    fn every_state_is_seen_as_what_the_table_says() {
        let ready = Readiness::Ready { pool_utilization: 0.0 };
        let not = Readiness::NotReady;
        let full = not(NotReady::PoolNearExhaustion { pool_utilization: 91.0 });
        let hung = not(NotReady::EngineStalled { silent: Duration::from_secs(3) });
        let draining = |then| State::Draining { then, deadline: Instant::now() };
        let failed = State::Failed(Failure::new(FailureKind::Worker, "out of cups"));
        for (state, readiness, n_running, want) in [
            (State::Unloaded, &not(NotReady::NoModel), 0, "no_model"),
            (State::Loading, &not(NotReady::ModelLoading { progress: 0.5 }), 0, "loading"),
            (State::Ready, &ready, 0, "ready"),
            (State::Ready, &ready, 1, "answering"),
            (State::Ready, &full, 1, "nearly_full"),
            (State::Ready, &hung, 1, "not_responding"),
            (draining(After::Exit), &not(NotReady::Parked), 1, "finishing"),
            (draining(After::Park), &not(NotReady::Parked), 1, "pausing"),
            (State::Parked, &not(NotReady::Parked), 0, "paused"),
            (failed, &hung, 0, "failed"),
            (State::Stopped, &not(NotReady::Stopped), 0, "quit"),
        ] {
            assert_eq!(Condition::of(&state, readiness, n_running).name(), want, "{state:?}");
        }
    }

    #[test]
    fn no_two_failures_are_said_alike() {
        for kind in FailureKind::ALL {
            let alike =
                FailureKind::ALL.into_iter().filter(|other| of_failure(*other).what == of_failure(kind).what);
            assert_eq!(alike.count(), 1, "{kind:?}");
        }
    }

    #[test]
    fn no_two_refusals_of_a_gpu_are_said_alike() {
        for kind in GpuRefusalKind::ALL {
            let words = of_gpu_refusal(kind);
            assert!(words.starts_with("On the CPU: "), "{words}");
            assert_eq!(
                GpuRefusalKind::ALL.into_iter().filter(|other| of_gpu_refusal(*other) == words).count(),
                1
            );
        }
    }
}
