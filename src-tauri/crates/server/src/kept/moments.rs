//! The last minutes of the pool and of the work, written down as they pass.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use engine::{EngineHandle, PoolCounts};
use tokio::time::{MissedTickBehavior, interval};

/// Time between two moments.
pub(crate) const EVERY: Duration = Duration::from_secs(2);
/// How many are kept: five minutes.
const N_MOMENTS: usize = 150;

/// What the pool held and what had been generated, moment by moment. It is the server's, so that a window that opens
/// shows what was before it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Guards the list against readers; held for a push or a copy only.
    moments: Mutex<VecDeque<Moment>>,
}

/// How the engine stood at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: SystemTime,
    pub(crate) pool: PoolCounts,
    pub(crate) generated_tokens: u64,
}

impl History {
    /// Write down how the engine stands, now and every two seconds; ends when dropped.
    pub(crate) async fn keep(&self, engine: &EngineHandle) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let stats = engine.stats();
            self.push(Moment {
                at: SystemTime::now(),
                pool: stats.pool,
                generated_tokens: stats.totals.generated_tokens,
            });
        }
    }

    /// The moments, the oldest first.
    pub(crate) fn all(&self) -> Vec<Moment> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn push(&self, moment: Moment) {
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        if moments.len() == N_MOMENTS {
            moments.pop_front();
        }
        moments.push_back(moment);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_oldest_moment_goes_when_the_list_is_full() {
        let history = History::default();
        for n in 0..N_MOMENTS as u64 + 2 {
            let at = UNIX_EPOCH + Duration::from_secs(n);
            history.push(Moment { at, pool: PoolCounts::default(), generated_tokens: n });
        }
        let moments = history.all();
        assert_eq!(moments.len(), N_MOMENTS);
        assert_eq!((moments[0].generated_tokens, moments[0].at), (2, UNIX_EPOCH + Duration::from_secs(2)));
    }
}
