//! The engine's life of one request: what it is given, what it has sampled, and the words it sends. Its tokens and how
//! far they are computed are the scheduler's to know.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use scheduler::{Admitted, NewSequence, Progress, PromptLogits, Row, SeqId, TokenId};
use text::{AnswerReading, Constraint, Detokenizer, StopMatcher, TextModel};
use tokio::sync::mpsc;

use super::held_logprobs::HeldLogprobs;
use crate::inbox::command::Submission;
use crate::keeping::answers::Answers;
use crate::keeping::former_prompts::{FirstNew, Former, Found};
use crate::permit::Permit;
use crate::sampling::{CannotSample, Sampler, Scratch, fresh_seed, logprob};
use crate::tally::{LastWords, Tally, Words};
use crate::told::checkpoint::CheckpointUse;
use crate::told::difference::{Difference, DifferenceReason};
use crate::told::event::{Event, FinishReason, TokenLogprob, Usage};
use crate::told::model_name::ModelName;
use crate::told::prompt_map::PromptMap;
use crate::told::record::{Outcome, RequestRecord};
use crate::told::request::{Markers, Refusal};
use crate::told::request_id::RequestId;
use crate::told::stats::{ActiveRequest, Phase};
use crate::told::trace_id::TraceId;

/// Tokens of the prompt that the detokenizer looks at: a character may span the border of prompt and answer.
const PROMPT_TAIL: usize = 8;

/// Tokens of a prompt that are shown before the first one that was not there already, and from there on.
const TOKENS_BEFORE: usize = 12;
const TOKENS_AFTER: usize = 32;

/// For a queue timeout beyond what the clock can hold.
const A_DAY: Duration = Duration::from_secs(86_400);

/// A request in flight. It always ends through one of the methods that consume it; terminal event and permit go to
/// the tally, which sends the one and gives back the other once both are in the published numbers.
pub(crate) struct Sequence {
    pub(crate) request_id: RequestId,
    /// When it has waited long enough for its admission.
    pub(crate) queue_deadline: Instant,
    /// Whether it was ever admitted: only then has it begun.
    pub(crate) admitted_at: Option<Instant>,
    pub(crate) agent: Option<String>,
    /// Whole blocks of its tokens that its agent's manifest had last.
    pub(crate) n_blocks_noted: usize,
    /// Whether its agent was deleted while it ran.
    pub(crate) is_forgotten: bool,
    /// Where in its prompt the system's message and the tools end.
    pub(crate) system_end: Option<usize>,
    spliced: Vec<Range<usize>>,
    is_chat: bool,
    restore_misses: BTreeMap<&'static str, u32>,
    remarks: Vec<String>,
    trace: Option<TraceId>,
    map: Option<Arc<PromptMap>>,
    /// The sequence before it that its prompt has most in common with.
    pub(crate) former: Former,
    difference: Option<Difference>,
    received: Instant,
    first_token_at: Option<Instant>,
    last_token_at: Option<Instant>,
    n_reused: usize,
    n_restored: usize,
    /// Where its state came from, on a model that has one.
    checkpoint: Option<CheckpointUse>,
    n_spliced: usize,
    n_prefilled: usize,
    n_preempted: usize,
    /// Tokens sampled; one that ends the turn is no part of the answer.
    n_generated: usize,
    /// What was generated and shown, a part that a stop string cuts included.
    answer: Vec<TokenId>,
    /// How that is read.
    reading: Option<Arc<AnswerReading>>,
    sampler: Sampler,
    constraint: Option<Constraint>,
    detokenizer: Detokenizer,
    stop: Vec<String>,
    stop_matcher: StopMatcher,
    ignore_end_of_turn: bool,
    top_logprobs: Option<usize>,
    held_logprobs: HeldLogprobs,
    events: mpsc::UnboundedSender<Event>,
    permit: Permit,
    model: ModelName,
    /// Where its answer is remembered.
    answers: Arc<Answers>,
}

/// What became of a sampled token.
pub(crate) enum Taken {
    /// The sequence goes on.
    More(TokenId),
    /// The sequence is complete. The token belongs to its text when it is given.
    Last(Option<TokenId>, FinishReason),
}

impl Sequence {
    /// Take a request in; the other half of it is for the scheduler.
    pub(crate) fn new(
        id: SeqId,
        submission: Submission,
        answers: Arc<Answers>,
        queue_timeout: Duration,
    ) -> (Sequence, NewSequence) {
        let Submission { request, events, permit, received } = submission;
        let request = *request;
        let prompt = request.prompt.tokens();
        let tail = &prompt[prompt.len().saturating_sub(PROMPT_TAIL)..];
        let detokenizer = match request.markers {
            Markers::Hidden => answers.text().detokenizer(tail),
            Markers::Shown => answers.text().detokenizer_with_markers(tail),
        };
        let stop: Vec<String> = request.stop.into_iter().filter(|s| !s.is_empty()).collect();
        let is_chat = !request.notes.message_ends.is_empty();
        let mut kept_windows = request.notes.message_ends;
        kept_windows.extend(request.notes.state_points.return_point);
        let mut state_points = request.notes.state_points;
        // What is no chat has nothing behind its end that an answer begins with.
        if !is_chat && state_points.generation_start.is_none() {
            state_points.generation_start = Some(prompt.len());
        }
        let new = NewSequence {
            id,
            agent: request.agent.as_deref().map(agent_number),
            prompt: request.prompt,
            max_new_tokens: request.max_tokens.unwrap_or(usize::MAX),
            kept_windows,
            state_points,
            answer_ends: request.notes.spliced.iter().map(|range| range.end).collect(),
            prompt_logits: PromptLogits::Last,
            former: None,
        };
        let sequence = Sequence {
            request_id: request.id,
            queue_deadline: received.checked_add(queue_timeout).unwrap_or(received + A_DAY),
            admitted_at: None,
            agent: request.agent,
            n_blocks_noted: 0,
            is_forgotten: false,
            system_end: request.notes.state_points.system_end,
            spliced: request.notes.spliced,
            is_chat,
            restore_misses: BTreeMap::new(),
            remarks: request.notes.remarks,
            trace: request.notes.trace,
            map: request.notes.map,
            former: Former::default(),
            difference: None,
            received,
            first_token_at: None,
            last_token_at: None,
            n_reused: 0,
            n_restored: 0,
            checkpoint: None,
            n_spliced: request.notes.n_spliced,
            n_prefilled: 0,
            n_preempted: 0,
            n_generated: 0,
            answer: Vec::new(),
            reading: request.notes.reading,
            sampler: Sampler::new(request.sampling, fresh_seed(id.0)),
            constraint: request.constraint,
            detokenizer,
            stop_matcher: StopMatcher::new(stop.clone()),
            stop,
            ignore_end_of_turn: request.ignore_end_of_turn,
            top_logprobs: request.top_logprobs,
            held_logprobs: HeldLogprobs::default(),
            events,
            permit,
            model: request.model,
            answers,
        };
        (sequence, new)
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.events.is_closed()
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.admitted_at.is_some()
    }

    /// Whether its answer has begun.
    pub(crate) fn is_writing(&self) -> bool {
        self.first_token_at.is_some()
    }

    /// How far it is, for those who look on.
    pub(crate) fn active(&self, progress: Progress<'_>) -> ActiveRequest {
        let phase = match (self.admitted_at, self.first_token_at) {
            (None, _) => Phase::Waiting,
            (Some(_), None) => Phase::Reading,
            (Some(_), Some(_)) => Phase::Writing,
        };
        ActiveRequest {
            id: self.request_id.clone(),
            agent: self.agent.clone(),
            phase,
            n_prompt: progress.n_prompt,
            n_done: progress.n_computed.min(progress.n_prompt),
            n_generated: self.n_generated,
        }
    }

    /// The scheduler admitted it, for the first time or again, with what it is to be told of states.
    pub(crate) fn admitted(
        &mut self,
        (admitted, checkpoint): (&Admitted, Option<CheckpointUse>),
        prompt: &[TokenId],
        now: Instant,
        tally: &mut Tally,
    ) {
        if self.admitted_at.is_some() {
            return;
        }
        self.admitted_at = Some(now);
        self.n_reused = admitted.n_reused;
        self.n_restored = admitted.n_restored;
        self.checkpoint = checkpoint;
        tally.totals.tokens_without_state += admitted.n_without_state as u64;
        tally.admitted(now.saturating_duration_since(self.received), self.n_reused);
        self.difference = self.difference(prompt);
        let (n_reused, n_restored) = (self.n_reused, self.n_restored);
        let difference = self.difference.clone();
        self.send(Event::Admitted { n_prompt: prompt.len(), n_reused, n_restored, checkpoint, difference });
    }

    /// Where its prompt stops being what was there, unless all of it was.
    fn difference(&self, prompt: &[TokenId]) -> Option<Difference> {
        let (n_reused, text) = (self.n_reused, self.answers.text());
        if n_reused + 1 >= prompt.len() {
            return None;
        }
        let n_without_state = self.checkpoint.map_or(0, |checkpoint| checkpoint.n_without_state);
        let found = Found { n_reused, n_without_state };
        let FirstNew { why, at, n_missed } = self.former.first_new(prompt.len(), found);
        // Where nothing was said in its place before, there is nothing to compare it with.
        let excerpt = |range: Range<usize>| match why {
            DifferenceReason::Changed => String::from_utf8_lossy(&text.raw_text(&prompt[range])).into_owned(),
            DifferenceReason::New
            | DifferenceReason::GoesOn
            | DifferenceReason::NotKept
            | DifferenceReason::NoCheckpoint => String::new(),
        };
        Some(Difference {
            why,
            place: self.map.as_ref().and_then(|map| map.place(at, prompt, text)),
            n_missed,
            before: excerpt(at.saturating_sub(TOKENS_BEFORE)..at),
            after: excerpt(at..prompt.len().min(at + TOKENS_AFTER)),
        })
    }

    /// Its state was to be kept at a place, and there was no room for that.
    pub(crate) fn skipped_checkpoint(&mut self) {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.n_skipped += 1;
        }
    }

    /// A block that it could have used was not to be had.
    pub(crate) fn missed(&mut self, reason: &'static str) {
        *self.restore_misses.entry(reason).or_default() += 1;
    }

    /// Whether the store has been asked for its blocks in vain.
    pub(crate) fn has_missed(&self) -> bool {
        !self.restore_misses.is_empty()
    }

    /// Whether its prompt was put together from messages, whose answers come back as text.
    pub(crate) fn is_chat(&self) -> bool {
        self.is_chat
    }

    /// Which of its tokens were generated, in order: those of earlier answers that were spliced in, and its own.
    pub(crate) fn generated(&self, n_prompt: usize) -> Vec<Range<usize>> {
        let own = n_prompt..n_prompt + self.answer.len();
        self.spliced.iter().cloned().chain([own]).collect()
    }

    /// Its blocks were taken from it; it will be computed again.
    pub(crate) fn preempted(&mut self) {
        self.n_preempted += 1;
    }

    /// A row of it ran. Returns how many tokens of its prompt that computed.
    pub(crate) fn computed(&mut self, row: &Row, n_prompt: usize) -> usize {
        let done = row.end().min(n_prompt);
        let n_prompt_tokens = done.saturating_sub(row.start);
        self.n_prefilled += n_prompt_tokens;
        if n_prompt_tokens > 0 && self.first_token_at.is_none() {
            self.send(Event::Prefilled { done, total: n_prompt });
        }
        n_prompt_tokens
    }

    /// Sample the next token from its logits and send what it adds to the text.
    ///
    /// # Errors
    /// The logits are not finite, or the answer cannot be held to its format.
    pub(crate) fn sample(
        &mut self,
        logits: &[f32],
        scratch: &mut Scratch,
        text: &TextModel,
        now: Instant,
        tally: &mut Tally,
    ) -> Result<Taken, CannotSample> {
        let holding = self.constraint.as_mut().filter(|constraint| constraint.holds());
        let mask = holding.map(Constraint::mask).transpose()?;
        let token = self.sampler.sample(logits, mask.as_ref(), scratch)?;
        if let Some(constraint) = &mut self.constraint {
            constraint.commit(token)?;
        }
        let logprob = self.top_logprobs.map(|n_top| logprob(logits, token, n_top, scratch)).transpose()?;
        match self.last_token_at.replace(now) {
            Some(before) => tally.next_token(now.saturating_duration_since(before)),
            None => {
                self.first_token_at = Some(now);
                tally.first_token(now.saturating_duration_since(self.received));
            }
        }
        self.n_generated += 1;
        Ok(self.say(token, logprob, text))
    }

    fn say(&mut self, token: TokenId, logprob: Option<TokenLogprob>, text: &TextModel) -> Taken {
        // A document that is complete leaves nothing but to end.
        let may_end = self.constraint.is_some() || !self.ignore_end_of_turn;
        if may_end && text.is_end_of_generation(token) {
            return Taken::Last(None, self.last_words(FinishReason::EndOfTurn));
        }
        self.answer.push(token);
        let completed = self.detokenizer.push(token);
        self.held_logprobs.push(logprob, completed.len());
        let said = self.stop_matcher.push(&completed);
        let logprobs = self.held_logprobs.sent(said.emit.len());
        self.send(Event::Text { text: said.emit, tokens: vec![token], logprobs });
        match said.stopped {
            Some(idx) => Taken::Last(Some(token), FinishReason::StopString(self.stop[idx].clone())),
            None if self.constraint.as_ref().is_some_and(Constraint::is_finished) => {
                Taken::Last(Some(token), self.last_words(FinishReason::EndOfTurn))
            }
            None => Taken::More(token),
        }
    }

    /// Send what was held back; it may yet complete a stop string, and that is the reason of the end then.
    pub(crate) fn last_words(&mut self, reason: FinishReason) -> FinishReason {
        let said = self.stop_matcher.push(&self.detokenizer.finish());
        match said.stopped {
            Some(idx) => {
                let logprobs = self.held_logprobs.sent(said.emit.len());
                self.send_rest(said.emit, logprobs);
                FinishReason::StopString(self.stop[idx].clone())
            }
            None => {
                let rest = said.emit + &self.stop_matcher.flush();
                let logprobs = self.held_logprobs.rest();
                self.send_rest(rest, logprobs);
                reason
            }
        }
    }

    /// The answer is complete.
    pub(crate) fn finish(
        self,
        reason: FinishReason,
        progress: Progress<'_>,
        now: Instant,
        tally: &mut Tally,
    ) {
        tally.ended_mut(&self.model).n_finished += 1;
        let usage = self.usage(progress, now);
        self.write_down(Outcome::from(&reason), progress, &usage, tally);
        self.end(Event::Finished { reason, usage }, tally);
    }

    /// There is no (further) answer.
    pub(crate) fn fail(mut self, error: Refusal, progress: Progress<'_>, now: Instant, tally: &mut Tally) {
        if self.has_begun() {
            tally.ended_mut(&self.model).n_interrupted += 1;
            // What a stop string might have swallowed is part of the answer so far.
            let (rest, logprobs) = (self.stop_matcher.flush(), self.held_logprobs.rest());
            self.send_rest(rest, logprobs);
        }
        let usage = self.usage(progress, now);
        self.write_down(Outcome::from(&error), progress, &usage, tally);
        self.end(Event::Failed { error, usage }, tally);
    }

    /// Nobody listens any more.
    pub(crate) fn cancel(self, progress: Progress<'_>, now: Instant, tally: &mut Tally) {
        tally.totals.cancelled += 1;
        self.write_down(Outcome::Cancelled, progress, &self.usage(progress, now), tally);
    }

    /// Write down what became of it, and remember its answer: before the client can ask for the next one.
    fn write_down(&self, outcome: Outcome, progress: Progress<'_>, usage: &Usage, tally: &mut Tally) {
        tally.write_down(self.record(outcome, usage));
        if !self.answer.is_empty() {
            self.answers.record(progress.prompt(), &self.answer, self.reading.as_deref());
        }
    }

    fn usage(&self, progress: Progress<'_>, now: Instant) -> Usage {
        let since_receipt = |at: Instant| at.saturating_duration_since(self.received);
        let decoding = match (self.first_token_at, self.last_token_at) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        };
        Usage {
            n_prompt: progress.n_prompt,
            n_reused: self.n_reused,
            n_generated: self.n_generated,
            queued: since_receipt(self.admitted_at.unwrap_or(now)),
            time_to_first_token: self.first_token_at.map(since_receipt),
            decoding,
        }
    }

    fn record(&self, outcome: Outcome, usage: &Usage) -> RequestRecord {
        RequestRecord {
            id: self.request_id.clone(),
            trace: self.trace,
            agent: self.agent.clone(),
            ended_at: SystemTime::now(),
            outcome,
            n_prompt: usage.n_prompt,
            n_texts: None,
            n_prefilled: self.n_prefilled,
            n_reused: usage.n_reused,
            n_restored: self.n_restored,
            n_spliced: self.n_spliced,
            checkpoint: self.checkpoint,
            restore_misses: self.restore_misses.clone(),
            remarks: self.remarks.clone(),
            first_difference: (self.has_begun() && self.n_reused + 1 < usage.n_prompt)
                .then_some(self.n_reused),
            difference: self.difference.clone(),
            n_generated: usage.n_generated,
            n_preempted: self.n_preempted,
            queued: usage.queued,
            time_to_first_token: usage.time_to_first_token,
            decoding: usage.decoding,
        }
    }

    fn end(self, event: Event, tally: &mut Tally) {
        let Sequence { events, permit, .. } = self;
        tally.tell_later(LastWords { words: Words::Event(event, events), permit });
    }

    /// Send what was held back, if anything was.
    fn send_rest(&self, text: String, logprobs: Vec<TokenLogprob>) {
        if !text.is_empty() || !logprobs.is_empty() {
            self.send(Event::Text { text, tokens: Vec::new(), logprobs });
        }
    }

    /// Send an event. A client that is gone is found by [`Sequence::is_gone`] before the next step.
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// The scheduler knows agents by number. Two names of one number only wait for each other.
fn agent_number(name: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
