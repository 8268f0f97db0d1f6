//! What the engine thread counts and writes down as requests come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scheduler::SeqId;
use tokio::sync::{mpsc, oneshot};

use crate::permit::Permit;
use crate::shared::Shared;
use crate::told::embedding::Embedded;
use crate::told::event::Event;
use crate::told::model_name::ModelName;
use crate::told::record::RequestRecord;
use crate::told::request::Refusal;
use crate::told::stats::{DrainReport, Totals};

/// Totals since the start, and the way to the histograms and records that the handles read.
pub(crate) struct Tally {
    pub(crate) totals: Totals,
    /// How sequences ended, by model.
    ended: BTreeMap<ModelName, Ended>,
    pub(crate) shared: Arc<Shared>,
    n_sequences: u64,
    /// The last words to those whose sequences have ended since the numbers were published.
    last_words: Vec<LastWords>,
}

/// How sequences that had begun came to their ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// By themselves.
    pub(crate) n_finished: u64,
    /// By the engine: at a deadline, by a fault, for want of room.
    pub(crate) n_interrupted: u64,
}

/// What a request is told last, and the place that it had.
pub(crate) struct LastWords {
    pub(crate) words: Words,
    pub(crate) permit: Permit,
}

/// What a request is told last, and the way there.
pub(crate) enum Words {
    /// A sequence's terminal event.
    Event(Event, mpsc::UnboundedSender<Event>),
    /// Texts' vectors, or why there are none.
    Vectors(Result<Embedded, Refusal>, oneshot::Sender<Result<Embedded, Refusal>>),
}

impl Tally {
    pub(crate) fn new(shared: Arc<Shared>) -> Tally {
        Tally {
            totals: Totals::default(),
            ended: BTreeMap::new(),
            shared,
            n_sequences: 0,
            last_words: Vec::new(),
        }
    }

    /// How sequences of a model ended since the start, or of all models.
    pub(crate) fn ended(&self, of: Option<&ModelName>) -> Ended {
        let those = self.ended.iter().filter(|(model, _)| of.is_none_or(|of| of == *model));
        those.fold(Ended::default(), |sum, (_, ended)| Ended {
            n_finished: sum.n_finished + ended.n_finished,
            n_interrupted: sum.n_interrupted + ended.n_interrupted,
        })
    }

    /// The ends of a model's sequences, to be counted.
    pub(crate) fn ended_mut(&mut self, model: &ModelName) -> &mut Ended {
        self.ended.entry(model.clone()).or_default()
    }

    /// A fresh id, unique in the process also when the worker is rebuilt.
    pub(crate) fn next_seq(&mut self) -> SeqId {
        self.n_sequences += 1;
        self.totals.requests += 1;
        SeqId(self.n_sequences)
    }

    /// A sequence was admitted after waiting for `queued`.
    pub(crate) fn admitted(&mut self, queued: Duration, n_reused: usize) {
        self.totals.reused_tokens += n_reused as u64;
        self.shared.histograms.queue_time.observe(queued.as_secs_f64());
    }

    /// A sequence's first token came `after` its receipt.
    pub(crate) fn first_token(&mut self, after: Duration) {
        self.totals.generated_tokens += 1;
        self.shared.histograms.time_to_first_token.observe(after.as_secs_f64());
    }

    /// Another token came `gap` after the one before.
    pub(crate) fn next_token(&mut self, gap: Duration) {
        self.totals.generated_tokens += 1;
        self.shared.histograms.inter_token.observe(gap.as_secs_f64());
    }

    /// A step of so many rows and tokens ran, `n_prompt_tokens` of them of prompts.
    pub(crate) fn step(&mut self, n_rows: usize, n_tokens: usize, n_prompt_tokens: usize, took: Duration) {
        self.totals.steps += 1;
        self.totals.rows += n_rows as u64;
        self.totals.step_tokens += n_tokens as u64;
        self.totals.prefilled_tokens += n_prompt_tokens as u64;
        let histograms = &self.shared.histograms;
        histograms.step_rows.observe(n_rows as f64);
        histograms.step_tokens.observe(n_tokens as f64);
        histograms.step_time.observe(took.as_secs_f64());
    }

    /// A part of a batch of texts was computed.
    pub(crate) fn embed_step(&mut self, took: Duration) {
        self.totals.steps += 1;
        self.shared.histograms.step_time.observe(took.as_secs_f64());
    }

    /// Texts of so many tokens got their vectors.
    pub(crate) fn embedded(&mut self, n_texts: usize, n_tokens: usize) {
        self.totals.embedded_texts += n_texts as u64;
        self.totals.embedded_tokens += n_tokens as u64;
    }

    /// A drain came to its end.
    pub(crate) fn drained(&mut self, report: &DrainReport) {
        let totals = &mut self.totals;
        totals.drained_sequences += report.n_drained as u64;
        totals.interrupted_sequences += report.n_interrupted as u64;
        totals.drain_timeouts += u64::from(report.n_interrupted > 0);
        totals.last_drain = Some(report.took);
        totals.drain_seconds += report.took.as_secs_f64();
    }

    /// Write down a request that has ended.
    pub(crate) fn write_down(&mut self, record: RequestRecord) {
        self.shared.push_record(record);
    }

    /// Keep last words until the numbers that it is part of are published.
    pub(crate) fn tell_later(&mut self, words: LastWords) {
        self.last_words.push(words);
    }

    /// Say the last words: the numbers are published, so whoever has a whole answer finds it counted. The place
    /// is free before the client can know that it is.
    pub(crate) fn tell(&mut self) {
        for LastWords { words, permit } in self.last_words.drain(..) {
            drop(permit);
            // A client that is gone needs no answer.
            match words {
                Words::Event(event, events) => drop(events.send(event)),
                Words::Vectors(result, reply) => drop(reply.send(result)),
            }
        }
    }
}
