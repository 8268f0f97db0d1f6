//! Whether the engine is ready, as a pure function of what it says of itself.

use std::time::{Duration, Instant};

use super::state::{FailureKind, State};
use super::stats::Stats;

/// A step that takes longer has hung.
pub const STEP_LIMIT: Duration = Duration::from_secs(30);

/// An engine thread that is in no step and silent for longer has hung or is gone.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(2);

/// What `/health/ready` says.
#[derive(Debug, Clone, PartialEq)]
pub enum Readiness {
    /// Requests are taken and there is room for them.
    Ready {
        /// Percent of the pool's blocks that are held.
        pool_utilization: f64,
    },
    /// Send requests elsewhere.
    NotReady(NotReady),
}

/// Why not.
#[derive(Debug, Clone, PartialEq)]
pub enum NotReady {
    /// Nothing is loaded and nothing is loading.
    NoModel,
    /// Weights are being read.
    ModelLoading {
        /// `0.0..=1.0`.
        progress: f64,
    },
    /// More than 90 % of the pool is held.
    PoolNearExhaustion {
        /// Percent of the pool's blocks that are held.
        pool_utilization: f64,
    },
    /// The engine drains.
    ShuttingDown {
        /// Sequences still running.
        n_active: usize,
        /// Time left to them.
        deadline: Duration,
    },
    /// Drained, and waiting to be resumed.
    Parked,
    /// The engine has ended.
    Stopped,
    /// Loading failed or the worker died.
    EngineFailed {
        /// What kind of thing went wrong.
        kind: FailureKind,
        /// Why, in words for the user.
        cause: String,
    },
    /// The engine thread gives no sign of life.
    EngineStalled {
        /// Since when.
        silent: Duration,
    },
}

/// Why not, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReadyReason {
    /// Nothing is loaded.
    NoModel,
    /// Weights are being read.
    ModelLoading,
    /// Nearly all of the pool is held.
    PoolNearExhaustion,
    /// The engine drains, or has ended.
    ShuttingDown,
    /// Drained, and waiting to be resumed.
    Parked,
    /// Loading failed or the worker died.
    EngineFailed,
    /// The engine thread gives no sign of life.
    EngineStalled,
}

crate::names! {
    pub NotReadyReason, ALL {
        NoModel => "no_model",
        ModelLoading => "model_loading",
        PoolNearExhaustion => "pool_near_exhaustion",
        ShuttingDown => "shutting_down",
        Parked => "parked",
        EngineFailed => "engine_failed",
        EngineStalled => "engine_stalled",
    }
}

impl NotReady {
    /// The reason without its numbers.
    pub fn reason(&self) -> NotReadyReason {
        match self {
            NotReady::NoModel => NotReadyReason::NoModel,
            NotReady::ModelLoading { .. } => NotReadyReason::ModelLoading,
            NotReady::PoolNearExhaustion { .. } => NotReadyReason::PoolNearExhaustion,
            NotReady::ShuttingDown { .. } | NotReady::Stopped => NotReadyReason::ShuttingDown,
            NotReady::Parked => NotReadyReason::Parked,
            NotReady::EngineFailed { .. } => NotReadyReason::EngineFailed,
            NotReady::EngineStalled { .. } => NotReadyReason::EngineStalled,
        }
    }
}

/// Judge `state` and `stats` at `now`.
///
/// A hung engine thread is noticed only where it should be taking requests: a drain that waits for it says so by
/// its deadline, and loading happens elsewhere.
pub fn readiness(state: &State, stats: &Stats, now: Instant) -> Readiness {
    let reason = match state {
        State::Unloaded => NotReady::NoModel,
        State::Loading => NotReady::ModelLoading { progress: stats.load.fraction() },
        State::Draining { deadline, .. } => NotReady::ShuttingDown {
            n_active: stats.n_running,
            deadline: deadline.saturating_duration_since(now),
        },
        State::Parked => NotReady::Parked,
        State::Stopped => NotReady::Stopped,
        State::Failed(failure) => NotReady::EngineFailed { kind: failure.kind, cause: failure.to_string() },
        State::Ready => match silent_for(stats, now) {
            Some(silent) => NotReady::EngineStalled { silent },
            None if stats.pool.is_near_exhaustion() => {
                NotReady::PoolNearExhaustion { pool_utilization: stats.pool.utilization() }
            }
            None => return Readiness::Ready { pool_utilization: stats.pool.utilization() },
        },
    };
    Readiness::NotReady(reason)
}

/// How long the engine thread has given no sign of life, when that is too long.
fn silent_for(stats: &Stats, now: Instant) -> Option<Duration> {
    let (since, limit) = match stats.step_started {
        Some(started) => (started, STEP_LIMIT),
        None => (stats.heartbeat, HEARTBEAT_LIMIT),
    };
    let silent = now.saturating_duration_since(since);
    (silent > limit).then_some(silent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::told::load_progress::LoadProgress;
    use crate::told::state::{After, Failure};
    use crate::told::stats::PoolCounts;

    /// The table of the contract: state and numbers on the left, what `/health/ready` says on the right.
    #[test]
    fn readiness_is_what_the_table_says() {
        let now = Instant::now() + Duration::from_secs(100);
        let ago = |ms: u64| now - Duration::from_millis(ms);
        let draining = |ms| State::Draining { then: After::Exit, deadline: now + Duration::from_millis(ms) };
        let pool = |held| PoolCounts { held, total: 1000, ..PoolCounts::default() };
        let fresh = || Stats { heartbeat: ago(500), pool: pool(412), ..Stats::default() };
        let silent = || Stats { heartbeat: ago(3_000), pool: pool(412), ..Stats::default() };
        let failed = State::Failed(Failure::new(FailureKind::NoSuchFile, "no such file"));
        let half = LoadProgress { bytes_done: 43, bytes_total: 100 };
        let stepping = |ms| Stats { step_started: Some(ago(ms)), ..silent() };

        let rows: Vec<(State, Stats, &str)> = vec![
            (State::Unloaded, fresh(), "no_model NoModel"),
            (
                State::Loading,
                Stats { load: half, ..fresh() },
                "model_loading ModelLoading { progress: 0.43 }",
            ),
            (State::Loading, silent(), "model_loading ModelLoading { progress: 0.0 }"),
            (State::Ready, fresh(), "ready 41.2"),
            (State::Ready, Stats { pool: pool(900), ..fresh() }, "ready 90.0"),
            (
                State::Ready,
                Stats { pool: pool(901), ..fresh() },
                "pool_near_exhaustion PoolNearExhaustion { pool_utilization: 90.1 }",
            ),
            (State::Ready, Stats { heartbeat: ago(2_000), ..fresh() }, "ready 41.2"),
            (
                State::Ready,
                Stats { heartbeat: ago(2_001), ..fresh() },
                "engine_stalled EngineStalled { silent: 2.001s }",
            ),
            (State::Ready, stepping(30_000), "ready 41.2"),
            (State::Ready, stepping(30_001), "engine_stalled EngineStalled { silent: 30.001s }"),
            (
                draining(7_000),
                Stats { n_running: 3, ..silent() },
                "shutting_down ShuttingDown { n_active: 3, deadline: 7s }",
            ),
            (State::Parked, fresh(), "parked Parked"),
            (
                failed,
                fresh(),
                "engine_failed EngineFailed { kind: NoSuchFile, cause: \"the model could not be loaded: no such file\" }",
            ),
            (State::Stopped, fresh(), "shutting_down Stopped"),
        ];
        for (state, stats, want) in rows {
            let said = match readiness(&state, &stats, now) {
                Readiness::Ready { pool_utilization } => format!("ready {pool_utilization:.1}"),
                Readiness::NotReady(why) => format!("{} {why:?}", why.reason().name()),
            };
            assert_eq!(said, want, "{state:?}");
        }
    }
}
