//! The engine's life of one request for vectors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use scheduler::{CheckedPrompt, TokenId, Vectors};
use tokio::sync::oneshot;

use crate::inbox::command::EmbedSubmission;
use crate::permit::{Permit, Room};
use crate::tally::{LastWords, Tally, Words};
use crate::told::embedding::{EmbedUsage, Embedded};
use crate::told::model_name::ModelName;
use crate::told::record::{Outcome, RequestRecord};
use crate::told::request::Refusal;
use crate::told::request_id::RequestId;
use crate::told::stats::{ActiveRequest, Phase};
use crate::told::trace_id::TraceId;

/// For a queue timeout beyond what the clock can hold.
const A_DAY: Duration = Duration::from_secs(86_400);

/// A request for vectors in flight. It always ends through one of the methods that consume it, as a sequence does.
pub(crate) struct Reading {
    pub(crate) request_id: RequestId,
    trace: Option<TraceId>,
    /// When it has waited long enough for its first turn.
    pub(crate) queue_deadline: Instant,
    model: ModelName,
    texts: Vec<CheckedPrompt>,
    n_tokens: usize,
    /// The vectors so far.
    vectors: Vectors,
    n_texts_read: usize,
    n_tokens_read: usize,
    received: Instant,
    begun_at: Option<Instant>,
    reply: oneshot::Sender<Result<Embedded, Refusal>>,
    permit: Permit,
    room: Room,
}

impl Reading {
    /// Take a request in, for vectors of `width` values.
    pub(crate) fn new(submission: EmbedSubmission, width: usize, queue_timeout: Duration) -> Reading {
        let EmbedSubmission { request, reply, permit, room, received } = submission;
        Reading {
            n_tokens: request.n_tokens(),
            request_id: request.id,
            trace: request.trace,
            queue_deadline: received.checked_add(queue_timeout).unwrap_or(received + A_DAY),
            model: request.model,
            vectors: Vectors { width, values: vec![0.0; request.texts.len() * width] },
            texts: request.texts,
            n_texts_read: 0,
            n_tokens_read: 0,
            received,
            begun_at: None,
            reply,
            permit,
            room,
        }
    }

    /// The tokens of one of its texts.
    pub(crate) fn text(&self, text_idx: usize) -> &[TokenId] {
        self.texts[text_idx].tokens()
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    /// Whether one of its texts has had its turn.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun_at.is_some()
    }

    /// Whether it has all its vectors.
    pub(crate) fn is_complete(&self) -> bool {
        self.n_texts_read == self.texts.len()
    }

    /// How far it is, for those who look on.
    pub(crate) fn active(&self) -> ActiveRequest {
        ActiveRequest {
            id: self.request_id.clone(),
            agent: None,
            phase: if self.has_begun() { Phase::Reading } else { Phase::Waiting },
            n_prompt: self.n_tokens,
            n_done: self.n_tokens_read,
            n_generated: 0,
        }
    }

    /// A text of it has its turn.
    pub(crate) fn begin(&mut self, now: Instant, tally: &mut Tally) {
        if self.begun_at.is_none() {
            self.begun_at = Some(now);
            tally.admitted(now.saturating_duration_since(self.received), 0);
        }
    }

    /// A text of it has its vector.
    pub(crate) fn take(&mut self, text_idx: usize, vector: &[f32]) {
        let start = text_idx * self.vectors.width;
        self.vectors.values[start..start + self.vectors.width].copy_from_slice(vector);
        self.n_texts_read += 1;
        self.n_tokens_read += self.text(text_idx).len();
    }

    /// It has all its vectors.
    pub(crate) fn finish(self, now: Instant, tally: &mut Tally) {
        tally.ended_mut(&self.model).n_finished += 1;
        tally.embedded(self.texts.len(), self.n_tokens);
        let usage = self.usage(now);
        tally.write_down(self.record(Outcome::Embedded, &usage));
        let Reading { vectors, reply, permit, room, .. } = self;
        let words = Words::Vectors(Ok(Embedded { vectors, usage, room }), reply);
        tally.tell_later(LastWords { words, permit });
    }

    /// There are no vectors.
    pub(crate) fn fail(self, error: Refusal, now: Instant, tally: &mut Tally) {
        if self.has_begun() {
            tally.ended_mut(&self.model).n_interrupted += 1;
        }
        tally.write_down(self.record(Outcome::from(&error), &self.usage(now)));
        let Reading { reply, permit, .. } = self;
        tally.tell_later(LastWords { words: Words::Vectors(Err(error), reply), permit });
    }

    /// Nobody waits for it any more.
    pub(crate) fn cancel(self, now: Instant, tally: &mut Tally) {
        tally.totals.cancelled += 1;
        tally.write_down(self.record(Outcome::Cancelled, &self.usage(now)));
    }

    fn usage(&self, now: Instant) -> EmbedUsage {
        EmbedUsage {
            n_tokens: self.n_tokens,
            queued: self.begun_at.unwrap_or(now).saturating_duration_since(self.received),
            took: now.saturating_duration_since(self.received),
        }
    }

    fn record(&self, outcome: Outcome, usage: &EmbedUsage) -> RequestRecord {
        RequestRecord {
            id: self.request_id.clone(),
            trace: self.trace,
            agent: None,
            ended_at: SystemTime::now(),
            outcome,
            n_prompt: usage.n_tokens,
            n_texts: Some(self.texts.len()),
            n_prefilled: self.n_tokens_read,
            n_reused: 0,
            n_restored: 0,
            n_spliced: 0,
            checkpoint: None,
            restore_misses: BTreeMap::new(),
            first_difference: None,
            difference: None,
            remarks: Vec::new(),
            n_generated: 0,
            n_preempted: 0,
            queued: usage.queued,
            time_to_first_token: None,
            decoding: Duration::ZERO,
        }
    }
}
