//! The engine's closed inbox: everything that can be asked of the engine thread, and everything that comes back
//! to it from the threads of loader and store.

use std::time::Instant;

use scheduler::SeqId;
use store::{BlockRecord, MissReason, StoreEvent};
use tokio::sync::{mpsc, oneshot};

use super::agent_ask::AgentAsk;
use super::question::Question;
use crate::permit::{Permit, Room};
use crate::told::embedding::{EmbedRequest, Embedded};
use crate::told::event::{Event, Usage};
use crate::told::load_progress::LoadProgress;
use crate::told::loader::Loaded;
use crate::told::model_name::ModelName;
use crate::told::request::{Refusal, Request};
use crate::told::state::{After, Failure, IllegalTransition};
use crate::told::stats::DrainReport;

/// Where the answer to an admin command goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, IllegalTransition>>;

/// One message to the engine thread. `Submit` and `Drain` share the inbox, so their order is total.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start loading, or load again after a failure.
    Load {
        /// Which; the default one when nobody says.
        model: Option<ModelName>,
        /// Told at once whether loading began.
        reply: Reply<()>,
    },
    /// A loader wants to know how much memory it gets.
    Needs {
        /// Of which model.
        model: ModelName,
        /// Which load; another than the last one is out of date.
        ticket: u64,
        /// What it needs, and where the answer goes.
        question: Question,
    },
    /// The loader's thread is under way.
    Progress {
        /// Of which model.
        model: ModelName,
        /// Which load; another than the last one is out of date.
        ticket: u64,
        /// How far it is.
        progress: LoadProgress,
    },
    /// The loader's thread has ended.
    Loaded {
        /// Of which model.
        model: ModelName,
        /// Which load; another than the last one is out of date.
        ticket: u64,
        /// The model, or why there is none.
        result: Result<Box<Loaded>, Failure>,
    },
    /// A device has finished a step: whoever waits for one looks.
    Stepped,
    /// A model is to finish what runs and to go.
    Leave {
        /// Which.
        model: ModelName,
        /// When sequences still running are ended.
        deadline: Instant,
        /// Told when it has left.
        reply: Option<Reply<DrainReport>>,
    },
    /// A request; its permit drops with its sequence.
    Submit(Submission),
    /// A request for vectors; its permit drops with it.
    Embed(EmbedSubmission),
    /// The store has read what a sequence waits for.
    Restored {
        /// Whose sequence.
        model: ModelName,
        /// Who waits.
        seq: SeqId,
        /// Which piece of what it waits for.
        piece: u64,
        /// One result for each block asked for, in that order.
        blocks: Vec<Result<BlockRecord, MissReason>>,
    },
    /// The store's threads have news.
    Store(StoreEvent),
    /// The store has made everything durable that kept a sequence from its memory.
    Hurried {
        /// Whose sequence.
        model: ModelName,
    },
    /// Something about named agents.
    Agents {
        /// What.
        ask: AgentAsk,
        /// Told when it is done, and whether there was such an agent.
        reply: Reply<bool>,
    },
    /// The store has made everything durable that was queued before a drain's or a model's end.
    Flushed {
        /// Which flush; another than the last one is out of date.
        ticket: u64,
    },
    /// Stop admitting, finish what runs, then park or exit. A second one may only move the deadline nearer.
    Drain {
        /// What comes after.
        then: After,
        /// When sequences still running are ended with `Interrupted`.
        deadline: Instant,
        /// Told when the drain is over.
        reply: Option<Reply<DrainReport>>,
    },
    /// Admit again.
    Resume {
        /// Told whether that was legal.
        reply: Reply<()>,
    },
    /// Look at the clock: a test has moved it.
    #[cfg(any(test, feature = "testing"))]
    Wake,
}

/// A request on its way to a model.
#[derive(Debug)]
pub(crate) struct Submission {
    /// The request, parsed and tokenised.
    pub(crate) request: Box<Request>,
    /// Where its events go; a closed channel cancels it.
    pub(crate) events: mpsc::UnboundedSender<Event>,
    /// One permit = one request in flight.
    pub(crate) permit: Permit,
    /// When the handler had read the request.
    pub(crate) received: Instant,
}

impl Submission {
    /// Answer without having begun.
    pub(crate) fn refuse(self, error: Refusal) {
        let Submission { request, events, permit, .. } = self;
        let usage = Usage { n_prompt: request.prompt.tokens().len(), ..Usage::default() };
        drop(permit);
        // A client that is gone needs no answer.
        let _ = events.send(Event::Failed { error, usage });
    }
}

/// A request for vectors on its way to a model.
#[derive(Debug)]
pub(crate) struct EmbedSubmission {
    /// The texts, tokenised.
    pub(crate) request: EmbedRequest,
    /// Where the vectors go; a closed channel cancels it.
    pub(crate) reply: oneshot::Sender<Result<Embedded, Refusal>>,
    /// One permit = one request in flight.
    pub(crate) permit: Permit,
    /// Its share of the memory for texts and vectors.
    pub(crate) room: Room,
    /// When the handler had read the request.
    pub(crate) received: Instant,
}

impl EmbedSubmission {
    /// Answer without having begun.
    pub(crate) fn refuse(self, error: Refusal) {
        let EmbedSubmission { reply, permit, room, .. } = self;
        drop((permit, room));
        // A client that is gone needs no answer.
        let _ = reply.send(Err(error));
    }
}
