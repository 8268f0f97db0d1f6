//! A loaded model at work: its runner, its pool, and the sequences that use them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use scheduler::{
    Ended, ModelRunner, Progress, Scheduler, SchedulerConfig, SeqId, StepOutput, StoreMode, SubmitError,
};
use store::{Origin, SaveCandidate, SaveReason};

use super::glance::Glance;
use super::postponed::Postponed;
use super::sequence::Sequence;
use super::step_budget::StepBudget;
use super::under_way::UnderWay;
use crate::config::EngineConfig;
use crate::inbox::command::{Command, Submission};
use crate::keeping::answers::Answers;
use crate::keeping::checkpoints::Checkpoints;
use crate::keeping::former_prompts::FormerPrompts;
use crate::keeping::manifests::recall;
use crate::keeping::residency::Residency;
use crate::keeping::resident_pins::ResidentPins;
use crate::keeping::restoring::Restoring;
use crate::keeping::saving::Saving;
use crate::sampling::Scratch;
use crate::tally::Tally;
use crate::told::card::ModelCard;
use crate::told::model_name::ModelName;
use crate::told::request::Refusal;
use crate::told::stats::{ActiveRequest, N_ACTIVE, PoolCounts};

/// Everything that is void when its worker dies: the runner with its pool, and what is known about it.
pub(crate) struct Serving {
    pub(crate) model: ModelName,
    pub(crate) card: Arc<ModelCard>,
    pub(crate) saving: Saving,
    pub(crate) restoring: Restoring,
    pub(super) checkpoints: Checkpoints,
    pub(super) answers: Arc<Answers>,
    /// What was computed lately.
    former: FormerPrompts,
    residency: Arc<Residency>,
    /// What stays in the pool for pinned agents.
    pub(super) pins: ResidentPins,
    /// Whether that has changed since it was last shown.
    pub(super) has_new_pins: bool,
    /// Whether requests came or ended since that was last shown.
    has_new_requests: bool,
    /// Blocks given up for others, as far as they are counted.
    pub(super) n_evictions: u64,
    pub(super) runner: Box<dyn ModelRunner>,
    pub(super) scheduler: Scheduler,
    /// In the order in which they came.
    pub(super) sequences: BTreeMap<SeqId, Sequence>,
    /// The step that the runner computes.
    pub(super) under_way: Option<UnderWay>,
    /// What waits for its end.
    pub(super) postponed: Vec<Postponed>,
    pub(super) output: StepOutput,
    pub(super) scratch: Scratch,
    pub(super) budget: StepBudget,
    /// Sequences that the last plan admitted.
    pub(super) admitted: Vec<SeqId>,
    /// Whether somebody waits for memory whose content is not durable yet.
    pub(super) is_short_of_saved: bool,
    /// Whether for memory that states hold which nobody has written yet.
    pub(super) is_short_of_states: bool,
    /// Whether the store was asked to hurry.
    pub(crate) is_hurrying: bool,
    pub(super) inbox: Sender<Command>,
    pub(super) config: EngineConfig,
}

impl Serving {
    pub(crate) fn new(
        model: ModelName,
        (runner, card): (Box<dyn ModelRunner>, Arc<ModelCard>),
        answers: Arc<Answers>,
        residency: Arc<Residency>,
        config: &EngineConfig,
        inbox: Sender<Command>,
    ) -> Serving {
        let scheduler = new_scheduler(runner.as_ref(), &card, config);
        let (store, layout) = (&config.store, runner.layout());
        let restoring =
            Restoring::new(Arc::clone(store), model.clone(), card.fingerprint, layout, inbox.clone());
        let checkpoints = Checkpoints::new(Arc::clone(store), card.fingerprint, layout.state.n_pieces);
        let former = recall(config.store.as_ref(), &card, &answers);
        Serving {
            restoring,
            checkpoints,
            saving: Saving::new(Arc::clone(store), card.fingerprint, layout),
            model,
            card,
            answers,
            former,
            residency,
            pins: ResidentPins::default(),
            has_new_pins: false,
            has_new_requests: false,
            n_evictions: 0,
            runner,
            scheduler,
            sequences: BTreeMap::new(),
            under_way: None,
            postponed: Vec::new(),
            output: StepOutput::default(),
            scratch: Scratch::default(),
            budget: StepBudget::new(config.step_token_budget, config.step_target),
            admitted: Vec::new(),
            is_short_of_saved: false,
            is_short_of_states: false,
            is_hurrying: false,
            inbox,
            config: config.clone(),
        }
    }

    /// Take a request into the queue, or refuse it at once.
    pub(crate) fn submit(&mut self, submission: Submission, tally: &mut Tally) {
        if let Err(refusal) = self.check(&submission) {
            return submission.refuse(refusal);
        }
        let id = tally.next_seq();
        let (mut sequence, mut new) =
            Sequence::new(id, submission, Arc::clone(&self.answers), self.config.queue_timeout);
        new.former = self.former_block(&sequence, new.prompt.tokens());
        sequence.former = self.former.find(new.prompt.tokens());
        let n_prompt = new.prompt.tokens().len();
        let refusal = match self.scheduler.submit(new) {
            Ok(_) => {
                let origin = if sequence.agent.is_some() { Origin::Named } else { Origin::Anonymous };
                let candidate = SaveCandidate { n_prompt_tokens: n_prompt, origin };
                if !self.config.store.admits(candidate) {
                    self.saving.spare(id);
                }
                self.sequences.insert(id, sequence);
                self.has_new_requests = true;
                return;
            }
            Err(SubmitError::TooLong { n_tokens, limit }) => Refusal::TooLong { n_tokens, limit },
            Err(error @ SubmitError::DuplicateId(_)) => {
                tracing::error!(request = %sequence.request_id, %error, "the scheduler refused a fresh id");
                Refusal::Fault { id: sequence.request_id.to_string() }
            }
        };
        let progress = Progress { n_prompt, ..Progress::default() };
        sequence.fail(refusal, progress, self.config.clock.now(), tally);
    }

    /// What would make the runner fail must not reach it: the prompt may have been made for a model that has left since.
    fn check(&self, submission: &Submission) -> Result<(), Refusal> {
        let n_vocab = self.runner.cache_spec().n_vocab;
        let n_assumed = submission.request.prompt.n_vocab();
        if n_assumed > n_vocab {
            let message =
                format!("it was made for a vocabulary of {n_assumed}, and the model has {n_vocab} tokens");
            return Err(Refusal::Invalid { param: "prompt", message });
        }
        Ok(())
    }

    /// Whether a test holds the next step.
    pub(crate) fn is_held(&self) -> bool {
        let is_writing = self.sequences.values().any(Sequence::is_writing);
        self.config.holds.is_held("step") || is_writing && self.config.holds.is_held("writing")
    }

    /// Whether there is nothing left to compute and everything is with the store; what is not is offered.
    pub(crate) fn is_done(&mut self) -> bool {
        if self.under_way.is_none() && self.is_empty() {
            self.checkpoints.write_all(&mut self.scheduler);
        } else if self.under_way.is_none() {
            self.checkpoints.write_resting(&mut self.scheduler);
        }
        self.save(SaveReason::Drain);
        self.is_empty() && self.under_way.is_none() && !self.saving.is_behind()
    }

    /// A sequence needs no memory any more; what it has becomes cache.
    fn retire(&mut self, id: SeqId) {
        self.saving.complete(id, &mut self.scheduler);
        if self.restoring.end(id) {
            self.scheduler.finish(id);
        }
    }

    /// A sequence whose KV may be poisoned: nobody may reuse it.
    pub(super) fn end_broken(&mut self, id: SeqId, now: Instant, tally: &mut Tally) {
        if let Some(sequence) = self.sequences.remove(&id) {
            self.has_new_requests = true;
            let refusal = Refusal::Fault { id: sequence.request_id.to_string() };
            sequence.fail(refusal, self.scheduler.progress(id).unwrap_or_default(), now, tally);
        }
        let gone = self.scheduler.discard(id);
        self.saving.drop_blocks(&gone);
        self.end_conversation(id);
        self.checkpoints.drop_states(&gone);
    }

    /// End a sequence with an error.
    pub(crate) fn end(&mut self, id: SeqId, refusal: Refusal, now: Instant, tally: &mut Tally) {
        self.take(id, |sequence, progress| sequence.fail(refusal, progress, now, tally));
    }

    /// End every sequence for which `refuse` has an error.
    pub(crate) fn end_where(
        &mut self,
        refuse: impl Fn(&Sequence) -> Option<Refusal>,
        now: Instant,
        tally: &mut Tally,
    ) -> usize {
        let refusals: Vec<_> = self.sequences.iter().filter_map(|(id, s)| Some((*id, refuse(s)?))).collect();
        let n = refusals.len();
        for (id, refusal) in refusals {
            self.end(id, refusal, now, tally);
        }
        n
    }

    /// Refuse what has not begun, because the model goes or the server drains. Returns how many that were.
    pub(crate) fn refuse_waiting(&mut self, refusal: &Refusal, now: Instant, tally: &mut Tally) -> usize {
        self.end_where(|sequence| (!sequence.has_begun()).then(|| refusal.clone()), now, tally)
    }

    /// The deadline of a drain has passed: end what still runs. A step under way is not cut: its sequences end with it.
    pub(crate) fn interrupt(&mut self, now: Instant, tally: &mut Tally) {
        if self.under_way.is_none() {
            // Of what is cut short, the states that were kept on its way count.
            self.checkpoints.end_all(now);
            let refusal = Refusal::Interrupted { why: "the server stopped before its end" };
            self.end_where(|_| Some(refusal.clone()), now, tally);
        }
    }

    /// The worker is lost: every sequence ends, without a word to the scheduler, which may be the one that broke. Those
    /// that wait are told `waiting`.
    pub(crate) fn abandon(mut self, waiting: &Refusal, now: Instant, tally: &mut Tally) {
        for (id, sequence) in std::mem::take(&mut self.sequences) {
            let refusal = match sequence.has_begun() {
                true => Refusal::Fault { id: sequence.request_id.to_string() },
                false => waiting.clone(),
            };
            sequence.fail(refusal, self.scheduler.progress(id).unwrap_or_default(), now, tally);
        }
        self.runner.give_up();
    }

    /// Show those who ask without this thread what is in the pool, and whose requests run or wait.
    pub(crate) fn show_residency(&mut self) {
        self.residency.follow(self.scheduler.take_moved());
        if std::mem::take(&mut self.has_new_pins) {
            self.residency.set_pinned(self.pins.keys());
        }
        if std::mem::take(&mut self.has_new_requests) {
            let mut n_requests = BTreeMap::new();
            for agent in self.sequences.values().filter_map(|sequence| sequence.agent.clone()) {
                *n_requests.entry(agent).or_default() += 1;
            }
            self.residency.set_requests(n_requests);
        }
    }

    /// Sequences that have begun.
    pub(crate) fn n_running(&self) -> usize {
        self.sequences.values().filter(|s| s.has_begun()).count()
    }

    /// Sequences that have not.
    pub(crate) fn n_waiting(&self) -> usize {
        self.sequences.len() - self.n_running()
    }

    /// What it has now.
    pub(crate) fn glance(&self) -> Glance {
        Glance {
            pool: self.pool(),
            n_running: self.n_running(),
            n_waiting: self.n_waiting(),
            active: self.active().collect(),
        }
    }

    /// How far the first [`N_ACTIVE`] sequences are.
    fn active(&self) -> impl Iterator<Item = ActiveRequest> {
        let begun = self.sequences.iter().take(N_ACTIVE);
        begun.map(|(id, sequence)| sequence.active(self.scheduler.progress(*id).unwrap_or_default()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// When the next sequence will have waited too long, or the next conversation will have rested for long enough.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.sequences.values().filter(|s| !s.has_begun()).map(|s| s.queue_deadline);
        let resting = self.checkpoints.next_due(&self.scheduler).filter(|_| self.under_way.is_none());
        waiting.chain(resting).min()
    }

    fn pool(&self) -> PoolCounts {
        let counts = self.scheduler.pool();
        PoolCounts {
            free: counts.n_free,
            held: counts.n_unavailable(),
            cached: counts.n_evictable,
            pinned: counts.n_pinned,
            live_states: counts.n_live_state,
            checkpoints: counts.n_checkpoints,
            checkpoint_blocks: counts.n_checkpoint_blocks,
            total: counts.n_total,
            block_bytes: self.runner.layout().block_bytes,
            block_tokens: self.runner.layout().block_tokens,
        }
    }

    /// A sequence ends: what it says and what is written down of it, then what becomes of its memory.
    pub(super) fn take(&mut self, id: SeqId, end: impl FnOnce(Sequence, Progress<'_>)) {
        if let Some(sequence) = self.sequences.remove(&id) {
            self.has_new_requests = true;
            let progress = self.scheduler.progress(id).unwrap_or_default();
            self.note_end(id, &sequence, progress);
            self.former.push(progress.tokens.get(..progress.n_kept).unwrap_or_default());
            let agent = sequence.agent.clone();
            end(sequence, progress);
            self.retire(id);
            self.end_conversation(id);
            if let Some(agent) = &agent {
                self.repin_agent(agent);
            }
        } else {
            self.retire(id);
            self.end_conversation(id);
        }
    }

    /// As [`Serving::take`], for one that the scheduler has ended.
    pub(super) fn take_ended(&mut self, ended: &Ended, end: impl FnOnce(Sequence, Progress<'_>)) {
        if let Some(sequence) = self.sequences.remove(&ended.seq) {
            self.has_new_requests = true;
            self.note_end(ended.seq, &sequence, ended.progress());
            let agent = sequence.agent.clone();
            end(sequence, ended.progress());
            self.end_conversation(ended.seq);
            if let Some(agent) = &agent {
                self.repin_agent(agent);
            }
        }
    }
}

fn new_scheduler(runner: &dyn ModelRunner, card: &ModelCard, config: &EngineConfig) -> Scheduler {
    let max_context = runner.cache_spec().max_context.min(card.effective_context);
    let scheduler_config = SchedulerConfig {
        step_token_budget: config.step_token_budget,
        max_rows: config.max_batch,
        max_chunk: config.prefill_chunk,
        store: if config.store.is_saving() { StoreMode::On } else { StoreMode::Off },
        ..SchedulerConfig::new(max_context, card.fingerprint)
    };
    Scheduler::new(runner.layout(), runner.n_blocks(), scheduler_config)
}
