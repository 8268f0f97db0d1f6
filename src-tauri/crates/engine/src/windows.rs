//! What the engine thread shows of itself: its state and its numbers.

use std::time::Instant;

use tokio::sync::watch;

use crate::ledger::Ledger;
use crate::lifecycle::State;
use crate::serving::Serving;
use crate::stats::Stats;

/// What the thread publishes. Only its owner writes the state, and only through `next`.
pub(crate) struct Windows {
    pub(crate) state: State,
    pub(crate) state_sender: watch::Sender<State>,
    pub(crate) stats: Stats,
    pub(crate) stats_sender: watch::Sender<Stats>,
}

/// A thread that ends without a drain is seen to have ended.
impl Drop for Windows {
    fn drop(&mut self) {
        self.state_sender.send_replace(State::Stopped);
    }
}

impl Windows {
    pub(crate) fn show(&mut self, serving: Option<&Serving>) {
        self.stats.n_running = serving.map_or(0, Serving::n_running);
        self.stats.n_waiting = serving.map_or(0, Serving::n_waiting);
        self.stats.active = serving.map(Serving::active).unwrap_or_default();
        self.stats.pool = serving.map(Serving::pool).unwrap_or_default();
    }

    /// A step is under way: it may take long, and what has ended before it is said now.
    pub(crate) fn step_begins(&mut self, now: Instant, serving: &Serving, ledger: &mut Ledger) {
        self.stats.heartbeat = now;
        self.stats.totals = ledger.totals.clone();
        self.show(Some(serving));
        self.stats.step_started = Some(now);
        self.stats_sender.send_replace(self.stats.clone());
        ledger.tell();
    }
}
