//! A drain under way: what it waits for and whom it tells.

use std::time::Instant;

use crate::command::Reply;
use crate::ledger::Ledger;
use crate::lifecycle::IllegalTransition;
use crate::stats::DrainReport;

/// Begins with the state `Draining` and ends with it.
pub(crate) struct Drain {
    pub(crate) since: Instant,
    pub(crate) n_refused: usize,
    pub(crate) flush: Flush,
    finished_before: u64,
    interrupted_before: u64,
    replies: Vec<Reply<DrainReport>>,
}

/// Where the flush of the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Sequences still run.
    NotBegun,
    /// The store was asked, under this ticket.
    UnderWay(u64),
    /// Everything is durable.
    Done,
}

impl Drain {
    pub(crate) fn begin(now: Instant, ledger: &mut Ledger) -> Drain {
        ledger.totals.drains += 1;
        Drain {
            since: now,
            n_refused: 0,
            flush: Flush::NotBegun,
            finished_before: ledger.n_finished,
            interrupted_before: ledger.n_interrupted,
            replies: Vec::new(),
        }
    }

    /// Tell `reply` too when it is over.
    pub(crate) fn tell(&mut self, reply: Option<Reply<DrainReport>>) {
        self.replies.extend(reply);
    }

    /// How it went until `now`.
    pub(crate) fn report(&self, now: Instant, ledger: &Ledger) -> DrainReport {
        DrainReport {
            n_drained: (ledger.n_finished - self.finished_before) as usize,
            n_interrupted: (ledger.n_interrupted - self.interrupted_before) as usize,
            n_refused: self.n_refused,
            took: now.saturating_duration_since(self.since),
        }
    }

    /// It is over: tell everybody who waits.
    pub(crate) fn answer(self, report: DrainReport) {
        for reply in self.replies {
            // Whoever asked may have gone.
            let _ = reply.send(Ok(report));
        }
    }

    /// It was cancelled; the state is `state` again.
    pub(crate) fn cancel(self, now: Instant, state: &'static str, ledger: &mut Ledger) {
        ledger.totals.drain_seconds += now.saturating_duration_since(self.since).as_secs_f64();
        for reply in self.replies {
            let _ = reply.send(Err(IllegalTransition { what: "finish draining", state }));
        }
    }
}
