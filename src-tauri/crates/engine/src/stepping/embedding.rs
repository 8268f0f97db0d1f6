//! A loaded encoder at work. Texts are read in batches, and of a batch so much in a turn as a step may take: then other
//! models have theirs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use scheduler::{BATCH_TOKENS, BatchIs, Embedder, QueuedText, SeqId, TextQueue, TokenId, Vectors};

use super::glance::Glance;
use super::reading::Reading;
use super::step_budget::StepBudget;
use super::turn::{Broken, Turn, reach_step};
use crate::config::EngineConfig;
use crate::inbox::command::EmbedSubmission;
use crate::tally::Tally;
use crate::told::card::ModelCard;
use crate::told::request::Refusal;
use crate::told::stats::{N_ACTIVE, PoolCounts};

/// Everything that is void when its worker dies: the encoder, and what is asked of it.
pub(crate) struct Embedding {
    pub(crate) card: Arc<ModelCard>,
    embedder: Box<dyn Embedder>,
    /// In the order in which they came.
    requests: BTreeMap<SeqId, Reading>,
    /// Their texts that no batch has had.
    queue: TextQueue,
    batch: Option<Batch>,
    vectors: Vectors,
    budget: StepBudget,
    config: EngineConfig,
}

/// The texts that are being read.
struct Batch {
    texts: Vec<QueuedText>,
    n_tokens: usize,
    n_parts_left: usize,
}

impl Embedding {
    pub(crate) fn new(
        (embedder, card): (Box<dyn Embedder>, Arc<ModelCard>),
        config: &EngineConfig,
    ) -> Embedding {
        Embedding {
            card,
            embedder,
            requests: BTreeMap::new(),
            queue: TextQueue::default(),
            batch: None,
            vectors: Vectors::default(),
            budget: StepBudget::new(config.step_token_budget, config.step_target),
            config: config.clone(),
        }
    }

    /// Take a request into the queue, or refuse it at once.
    pub(crate) fn submit(&mut self, submission: EmbedSubmission, tally: &mut Tally) {
        if let Err(refusal) = self.check(&submission) {
            return submission.refuse(refusal);
        }
        let id = tally.next_seq();
        self.queue.push(id, submission.request.texts.iter().map(|text| text.tokens().len()).collect());
        let width = self.embedder.spec().width;
        self.requests.insert(id, Reading::new(submission, width, self.config.queue_timeout));
    }

    /// What would make the encoder fail must not reach it: the texts may have been made for a model that has left since.
    fn check(&self, submission: &EmbedSubmission) -> Result<(), Refusal> {
        let spec = self.embedder.spec();
        let invalid = |message: String| Err(Refusal::Invalid { param: "input", message });
        for text in &submission.request.texts {
            if text.n_vocab() > spec.n_vocab {
                let (assumed, n_vocab) = (text.n_vocab(), spec.n_vocab);
                return invalid(format!(
                    "it was made for a vocabulary of {assumed}, and the model has {n_vocab} tokens"
                ));
            }
            if text.tokens().len() > spec.max_tokens {
                return Err(Refusal::TooLong { n_tokens: text.tokens().len(), limit: spec.max_tokens });
            }
        }
        if submission.request.texts.is_empty() { invalid("there is no text".to_owned()) } else { Ok(()) }
    }

    /// Read as much as a step may.
    ///
    /// # Errors
    /// The encoder has failed, and with it everything here.
    pub(crate) fn turn(
        &mut self,
        tally: &mut Tally,
        step_begins: impl FnOnce(Glance, &mut Tally, Instant),
    ) -> Result<Turn, Broken> {
        self.sweep(self.config.clock.now(), tally);
        if self.is_empty() {
            return Ok(Turn::Idle);
        }
        if self.config.holds.is_held("step") {
            return Ok(Turn::Held);
        }
        let began = self.config.clock.now();
        let Some((n_parts, n_tokens)) = self.next_parts(began, tally)? else { return Ok(Turn::Idle) };
        step_begins(self.glance(), tally, began);
        reach_step(&self.config.holds)?;
        let batch_is = self.embedder.advance(n_parts, &mut self.vectors)?;
        let took = self.config.clock.now().saturating_duration_since(began);
        self.budget.observe(n_tokens, took);
        tally.embed_step(took);
        match batch_is {
            BatchIs::Done => self.deliver(tally)?,
            BatchIs::UnderWay => {}
        }
        Ok(Turn::Computed)
    }

    /// End requests that nobody waits for, and refuse those that have waited too long; texts of nobody are not read on.
    fn sweep(&mut self, now: Instant, tally: &mut Tally) {
        for id in self.ids(Reading::is_gone) {
            self.take(id, |reading| reading.cancel(now, tally));
        }
        let n_waiting = self.n_waiting();
        for id in self.ids(|reading| !reading.has_begun() && reading.queue_deadline <= now) {
            self.take(id, |reading| reading.fail(Refusal::Busy { n_waiting }, now, tally));
        }
        let requests = &self.requests;
        self.batch =
            self.batch.take().filter(|batch| batch.texts.iter().any(|text| requests.contains_key(&text.id)));
    }

    /// How many parts of the batch are computed now, and how many tokens of work these are. Where there is no batch under
    /// way, the next one is begun.
    fn next_parts(&mut self, now: Instant, tally: &mut Tally) -> Result<Option<(usize, usize)>, Broken> {
        if self.batch.is_none() {
            self.begin_batch(now, tally)?;
        }
        let Some(batch) = &mut self.batch else { return Ok(None) };
        let n_parts = self.embedder.spec().n_parts.max(1);
        let fitting = self.budget.n_tokens() * n_parts / batch.n_tokens.max(1);
        let now = fitting.clamp(1, batch.n_parts_left.max(1));
        batch.n_parts_left = batch.n_parts_left.saturating_sub(now);
        Ok(Some((now, (batch.n_tokens * now).div_ceil(n_parts))))
    }

    fn begin_batch(&mut self, now: Instant, tally: &mut Tally) -> Result<(), Broken> {
        let texts = self.queue.take(BATCH_TOKENS);
        for text in &texts {
            if let Some(reading) = self.requests.get_mut(&text.id) {
                reading.begin(now, tally);
            }
        }
        let tokens_of = |text: &QueuedText| Some(self.requests.get(&text.id)?.text(text.text_idx));
        let tokens: Vec<&[TokenId]> = texts.iter().filter_map(tokens_of).collect();
        if tokens.is_empty() {
            return Ok(());
        }
        self.embedder.begin(&tokens)?;
        let n_tokens = tokens.iter().map(|tokens| tokens.len()).sum();
        self.batch = Some(Batch { texts, n_tokens, n_parts_left: self.embedder.spec().n_parts });
        Ok(())
    }

    /// Give the vectors of the batch to those who asked, and end what is complete.
    fn deliver(&mut self, tally: &mut Tally) -> Result<(), Broken> {
        let Some(Batch { texts, .. }) = self.batch.take() else { return Ok(()) };
        let width = self.embedder.spec().width;
        if self.vectors.width != width || self.vectors.values.len() != texts.len() * width {
            let (n_values, n_texts) = (self.vectors.values.len(), texts.len());
            return Err(Broken::Worker(format!(
                "{n_values} values for {n_texts} texts, where a vector has {width}"
            )));
        }
        let vectors: Vec<&[f32]> = self.vectors.values.chunks_exact(width.max(1)).collect();
        let is_finite = |vector: &[f32]| vector.iter().all(|value| value.is_finite());
        // Before anybody is told: one text may be its request's own fault, a model that computes no numbers is not.
        if !vectors.iter().any(|vector| is_finite(vector)) && !is_sound(self.embedder.as_mut())? {
            return Err(Broken::Model);
        }
        let now = self.config.clock.now();
        for (text, vector) in texts.iter().zip(vectors) {
            let Some(mut reading) = self.requests.remove(&text.id) else { continue };
            if !is_finite(vector) {
                self.queue.remove(text.id);
                tracing::error!(request = %reading.request_id, text = text.text_idx, "its vector is not finite");
                let refusal = Refusal::Fault { id: reading.request_id.to_string() };
                reading.fail(refusal, now, tally);
                continue;
            }
            reading.take(text.text_idx, vector);
            if reading.is_complete() {
                reading.finish(now, tally);
            } else {
                self.requests.insert(text.id, reading);
            }
        }
        Ok(())
    }

    /// Refuse what has not begun, because the model goes or the server drains. Returns how many that were.
    pub(crate) fn refuse_waiting(&mut self, refusal: &Refusal, now: Instant, tally: &mut Tally) -> usize {
        let waiting = self.ids(|reading| !reading.has_begun());
        for id in &waiting {
            self.take(*id, |reading| reading.fail(refusal.clone(), now, tally));
        }
        waiting.len()
    }

    /// The deadline of a drain has passed: end what is left.
    pub(crate) fn interrupt(&mut self, now: Instant, tally: &mut Tally) {
        for id in self.ids(|_| true) {
            let refusal = Refusal::Interrupted { why: "the server stopped before its end" };
            self.take(id, |reading| reading.fail(refusal, now, tally));
        }
    }

    /// The worker is lost: every request ends. Those that wait are told `waiting`.
    pub(crate) fn abandon(self, waiting: &Refusal, now: Instant, tally: &mut Tally) {
        for reading in self.requests.into_values() {
            let refusal = match reading.has_begun() {
                true => Refusal::Fault { id: reading.request_id.to_string() },
                false => waiting.clone(),
            };
            reading.fail(refusal, now, tally);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// When the next request will have waited too long.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.requests.values().filter(|reading| !reading.has_begun()).map(|r| r.queue_deadline).min()
    }

    /// What it has now.
    pub(crate) fn glance(&self) -> Glance {
        let n_waiting = self.n_waiting();
        Glance {
            pool: PoolCounts::default(),
            n_running: self.requests.len() - n_waiting,
            n_waiting,
            active: self.requests.values().take(N_ACTIVE).map(Reading::active).collect(),
        }
    }

    fn n_waiting(&self) -> usize {
        self.requests.values().filter(|reading| !reading.has_begun()).count()
    }

    fn ids(&self, which: impl Fn(&Reading) -> bool) -> Vec<SeqId> {
        self.requests.iter().filter(|(_, reading)| which(reading)).map(|(id, _)| *id).collect()
    }

    fn take(&mut self, id: SeqId, end: impl FnOnce(Reading)) {
        self.queue.remove(id);
        if let Some(reading) = self.requests.remove(&id) {
            end(reading);
        }
    }
}

/// Whether an encoder computes numbers at all: it reads single tokens from different parts of the vocabulary, each
/// alone, until one has a vector that is finite.
fn is_sound(embedder: &mut dyn Embedder) -> Result<bool, Broken> {
    let (last, n_parts) = (embedder.spec().n_vocab.saturating_sub(1), embedder.spec().n_parts);
    let mut out = Vectors::default();
    for token in [last / 2, last.min(1), last / 4, last] {
        embedder.begin(&[&[token as TokenId]])?;
        embedder.advance(n_parts, &mut out)?;
        if !out.values.is_empty() && out.values.iter().all(|value| value.is_finite()) {
            return Ok(true);
        }
    }
    Ok(false)
}
