//! A drain under way, of the server or of one model: what it waits for and whom it tells.

use std::time::Instant;

use crate::inbox::command::Reply;
use crate::tally::{Ended, Tally};
use crate::told::model_name::ModelName;
use crate::told::state::IllegalTransition;
use crate::told::stats::DrainReport;

/// Begins with the state `Draining` of the server or `Leaving` of a model, and ends with it.
pub(crate) struct Drain {
    /// Of everybody, or of one model's sequences.
    of: Option<ModelName>,
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
    /// Of the server, or of the model `of`.
    pub(crate) fn begin(of: Option<ModelName>, now: Instant, tally: &Tally) -> Drain {
        let Ended { n_finished, n_interrupted } = tally.ended(of.as_ref());
        Drain {
            of,
            since: now,
            n_refused: 0,
            flush: Flush::NotBegun,
            finished_before: n_finished,
            interrupted_before: n_interrupted,
            replies: Vec::new(),
        }
    }

    /// Tell `reply` too when it is over.
    pub(crate) fn tell(&mut self, reply: Option<Reply<DrainReport>>) {
        self.replies.extend(reply);
    }

    /// How it went until `now`.
    pub(crate) fn report(&self, now: Instant, tally: &Tally) -> DrainReport {
        let Ended { n_finished, n_interrupted } = tally.ended(self.of.as_ref());
        DrainReport {
            n_drained: (n_finished - self.finished_before) as usize,
            n_interrupted: (n_interrupted - self.interrupted_before) as usize,
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
    pub(crate) fn cancel(self, state: &'static str) {
        for reply in self.replies {
            let _ = reply.send(Err(IllegalTransition { what: "finish draining", state }));
        }
    }
}
