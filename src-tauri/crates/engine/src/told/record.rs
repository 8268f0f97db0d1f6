//! What became of the last requests: one line each for `GET /admin/requests`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use super::checkpoint::CheckpointUse;
use super::difference::Difference;
use super::event::FinishReason;
use super::request::Refusal;
use super::request_id::RequestId;
use super::trace_id::TraceId;

/// How many records are kept.
pub const N_RECORDS: usize = 200;

/// One request that has ended. No text of prompt or answer is in it, but for a few words around what has changed
/// in its prompt: those are for whoever administers this server, and for no log.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRecord {
    /// The request's id.
    pub id: RequestId,
    /// The trace that it was part of, where the client said.
    pub trace: Option<TraceId>,
    /// The agent, where the client named one.
    pub agent: Option<String>,
    /// When it ended.
    pub ended_at: SystemTime,
    /// Why it ended.
    pub outcome: Outcome,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Of a request for vectors, how many texts it had; the tokens of all of them are its prompt.
    pub n_texts: Option<usize>,
    /// Prompt tokens computed for it, those computed again after a preemption included.
    pub n_prefilled: usize,
    /// Prompt tokens whose KV was in the pool.
    pub n_reused: usize,
    /// Of those, tokens whose KV came back from the store for this request.
    pub n_restored: usize,
    /// Of those, generated ids that were taken instead of the re-sent text's.
    pub n_spliced: usize,
    /// At which of the kept states it began, on a model with recurrent layers; none where it never began.
    pub checkpoint: Option<CheckpointUse>,
    /// Blocks that it could have used and the store could not supply, by reason (`store::MissReason::name`); of a run
    /// of blocks that are not there the first one counts.
    pub restore_misses: BTreeMap<&'static str, u32>,
    /// Where the prompt first differs from what the pool had: the position of the first token not reused.
    pub first_difference: Option<usize>,
    /// What stands there, and why that is so.
    pub difference: Option<Difference>,
    /// What was done to the request that its answer does not show, in words: a tool that was dropped, for example.
    pub remarks: Vec<String>,
    /// Tokens sampled.
    pub n_generated: usize,
    /// How often its blocks were taken from it while it ran.
    pub n_preempted: usize,
    /// From receipt to admission; for one never admitted, to its end.
    pub queued: Duration,
    /// From receipt to the first sampled token.
    pub time_to_first_token: Option<Duration>,
    /// From the first sampled token to the last.
    pub decoding: Duration,
}

/// Why a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model's own end of turn.
    EndOfTurn,
    /// A stop string of the request.
    StopString,
    /// `max_tokens`, or the room that the context left.
    Length,
    /// Each of its texts has its vector.
    Embedded,
    /// Its client went away.
    Cancelled,
    /// A value that the engine cannot take.
    Invalid,
    /// The prompt does not fit the context.
    TooLong,
    /// The pool had no room in time.
    PoolExhausted,
    /// Too many requests were in flight.
    Busy,
    /// The engine admitted nothing.
    Unavailable,
    /// It was begun and could not be finished.
    Interrupted,
    /// The forward pass failed.
    Fault,
}

crate::names! {
    pub Outcome {
        EndOfTurn => "end_of_turn",
        StopString => "stop_string",
        Length => "length",
        Embedded => "embedded",
        Cancelled => "cancelled",
        Invalid => "invalid",
        TooLong => "too_long",
        PoolExhausted => "pool_exhausted",
        Busy => "busy",
        Unavailable => "unavailable",
        Interrupted => "interrupted",
        Fault => "fault",
    }
}

impl From<&FinishReason> for Outcome {
    fn from(reason: &FinishReason) -> Outcome {
        match reason {
            FinishReason::EndOfTurn => Outcome::EndOfTurn,
            FinishReason::StopString(_) => Outcome::StopString,
            FinishReason::Length => Outcome::Length,
        }
    }
}

impl From<&Refusal> for Outcome {
    fn from(refusal: &Refusal) -> Outcome {
        match refusal {
            Refusal::Invalid { .. } | Refusal::WrongPurpose { .. } => Outcome::Invalid,
            Refusal::TooLong { .. } => Outcome::TooLong,
            Refusal::PoolExhausted { .. } => Outcome::PoolExhausted,
            Refusal::Busy { .. } => Outcome::Busy,
            Refusal::Unavailable { .. } => Outcome::Unavailable,
            Refusal::Interrupted { .. } => Outcome::Interrupted,
            Refusal::Fault { .. } => Outcome::Fault,
        }
    }
}

/// The last [`N_RECORDS`] records, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Records(VecDeque<RequestRecord>);

impl Records {
    pub(crate) fn push(&mut self, record: RequestRecord) {
        if self.0.len() == N_RECORDS {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    /// The one that ended last.
    pub(crate) fn last(&self) -> Option<&RequestRecord> {
        self.0.back()
    }

    /// The last one of a request called `id`.
    pub(crate) fn find(&self, id: &str) -> Option<&RequestRecord> {
        self.0.iter().rev().find(|record| record.id.0.as_ref() == id)
    }

    pub(crate) fn to_vec(&self) -> Vec<RequestRecord> {
        self.0.iter().cloned().collect()
    }
}
