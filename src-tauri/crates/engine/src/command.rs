//! The engine's closed inbox: everything that can be asked of the engine thread.

use std::time::Instant;

use store::FlushReport;
use tokio::sync::{mpsc, oneshot};

use crate::event::Event;
use crate::handle::Permit;
use crate::lifecycle::{After, IllegalTransition};
use crate::loader::Loaded;
use crate::request::Request;
use crate::stats::DrainReport;

/// One message to the engine thread. `Submit` and `Drain` share the inbox, so their order is total.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start loading, or load again after a failure.
    Load {
        /// Told at once whether loading began.
        reply: oneshot::Sender<Result<(), IllegalTransition>>,
    },
    /// The loader thread has ended.
    Loaded(Result<Box<Loaded>, String>),
    /// The store has made everything durable that was queued before a drain's end.
    Flushed(FlushReport),
    /// Look at the clock: a test has moved it.
    Wake,
    /// A request; its permit drops with its sequence.
    Submit {
        /// The request, parsed and tokenised.
        request: Box<Request>,
        /// Where its events go; a closed channel cancels it.
        events: mpsc::UnboundedSender<Event>,
        /// One permit = one request in the house.
        permit: Permit,
        /// When the handler had read the request.
        received: Instant,
    },
    /// Stop admitting, finish what runs, then park or exit. A second one may only move the deadline nearer.
    Drain {
        /// What comes after.
        then: After,
        /// When sequences still running are ended with `Interrupted`.
        deadline: Instant,
        /// Told when the drain is over.
        reply: Option<oneshot::Sender<Result<DrainReport, IllegalTransition>>>,
    },
    /// Admit again.
    Resume {
        /// Told whether that was legal.
        reply: oneshot::Sender<Result<(), IllegalTransition>>,
    },
}
