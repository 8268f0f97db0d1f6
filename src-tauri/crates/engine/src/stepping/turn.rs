//! A model's turn: `plan → run → sample → commit`. Prompts and answers are one code path, and so are a processor
//! that computes while we wait and a device that computes while other models have their turn.
//!
//! Sampling and detokenising happen on the engine thread because a stop string must stop the next step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduler::{Admitted, Begun, EndReason, Plan, Row, RunError, SeqId, Step, StepOutput};
use store::SaveReason;

use super::glance::Glance;
use super::sampled::Sampled;
use super::sequence::{Sequence, Taken};
use super::serving::Serving;
use super::soundness::is_sound;
use super::under_way::UnderWay;
use crate::hold_points::{Fault, HoldPoints};
use crate::inbox::command::Command;
use crate::sampling::CannotSample;
use crate::tally::Tally;
use crate::told::checkpoint::CheckpointUse;
use crate::told::event::FinishReason;
use crate::told::readiness::STEP_LIMIT;
use crate::told::request::Refusal;

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something was computed, so the next turn may compute something too.
    Computed,
    /// There is nothing to compute, or the device still does.
    Idle,
    /// A test holds the step.
    Held,
}

/// Why nothing more can be had of what is loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The runner; a new one may do.
    #[error("{0}")]
    Worker(String),
    /// The model: its weights, or what computes with them.
    #[error("whatever it reads, it computes logits that are not finite: its weights are damaged")]
    Model,
}

impl From<RunError> for Broken {
    fn from(error: RunError) -> Broken {
        Broken::Worker(error.to_string())
    }
}

/// A step is about to be computed, as tests may want it.
///
/// # Errors
/// A test wants it to fail.
pub(super) fn reach_step(holds: &HoldPoints) -> Result<(), Broken> {
    holds.wait("forward");
    match holds.take_fault() {
        Some(Fault::Panic) => panic!("a panic that the switch step.panic asked for"),
        Some(Fault::Error) => {
            let error = "an error that the switch step.error asked for";
            Err(RunError::Device(error.to_owned()).into())
        }
        None => Ok(()),
    }
}

/// A step that was computed; what it gave is in the model's buffer.
struct Computed {
    step: Arc<Step>,
    took: Duration,
}

impl Serving {
    /// Compute something for every sequence that can go on, as far as that is possible now. `step_begins` is called
    /// before a step that may keep this thread.
    ///
    /// # Errors
    /// The pool is void, and with it everything here.
    pub(crate) fn turn(
        &mut self,
        tally: &mut Tally,
        step_begins: impl FnOnce(Glance, &mut Tally, Instant),
    ) -> Result<Turn, Broken> {
        let computed = match &self.under_way {
            Some(_) => self.poll()?,
            None => match self.next_step(tally) {
                Ok(step) => self.run(step, tally, step_begins)?,
                Err(turn) => return Ok(turn),
            },
        };
        let Some(computed) = computed else { return Ok(Turn::Idle) };
        let sampled = self.sample(&computed, tally);
        self.check_soundness(&sampled)?;
        self.commit(&computed.step, sampled, tally);
        Ok(Turn::Computed)
    }

    /// When the step under way will have taken too long, for one that this thread does not wait for.
    pub(crate) fn step_deadline(&self) -> Option<Instant> {
        self.under_way.as_ref().map(|under_way| under_way.began + STEP_LIMIT)
    }

    /// Put everything in order and decide the next step, if there is one.
    fn next_step(&mut self, tally: &mut Tally) -> Result<Step, Turn> {
        let now = self.config.clock.now();
        self.prepare_step(now, tally);
        let is_restoring = self.restoring.has_arrivals();
        let nothing = if is_restoring { Turn::Computed } else { Turn::Idle };
        if self.is_empty() {
            return Err(nothing);
        }
        if self.is_held() {
            return Err(Turn::Held);
        }
        let step = self.plan(now, tally);
        if step.rows.is_empty() {
            self.hurry_the_store();
            return Err(nothing);
        }
        Ok(step)
    }

    /// Decide the next step and tell the sequences what that means for them.
    fn plan(&mut self, now: Instant, tally: &mut Tally) -> Step {
        self.scheduler.set_token_budget(self.budget.n_tokens());
        let restoring = &self.restoring;
        let plan = self.scheduler.plan(&|keys| restoring.are_stored(keys));
        let Plan { step, admitted, preempted, ended, restores, stalled } = plan;
        let is_waiting = !stalled.is_empty() || self.scheduler.counts().n_waiting > 0;
        self.is_short_of_saved = is_waiting && step.rows.is_empty() && self.scheduler.pool().n_unsaved > 0;
        for restore in restores {
            self.restoring.begin(restore, self.runner.as_mut());
        }
        for id in preempted {
            tally.totals.preemptions += 1;
            self.sequences.entry(id).and_modify(Sequence::preempted);
        }
        let has_states = !self.runner.layout().state.is_empty();
        for admitted in &admitted {
            let Admitted { n_reused, n_without_state, .. } = *admitted;
            let progress = self.scheduler.progress(admitted.seq).unwrap_or_default();
            if let Some(sequence) = self.sequences.get_mut(&admitted.seq) {
                let checkpoint = CheckpointUse { n_tokens: n_reused, n_without_state, n_skipped: 0 };
                let checkpoint = has_states.then_some(checkpoint);
                sequence.admitted((admitted, checkpoint), progress.prompt(), now, tally);
                self.note_miss(admitted.seq, n_reused + n_without_state, tally);
                self.begin_conversation(admitted.seq);
            }
            self.admitted.push(admitted.seq);
        }
        self.follow_checkpoints(tally);
        self.is_short_of_states = self.is_short_of_states(!stalled.is_empty());
        for ended in &ended {
            let EndReason::PoolExhausted(shortage) = ended.reason;
            self.take_ended(ended, |sequence, progress| {
                let refusal = if sequence.has_begun() {
                    Refusal::Interrupted { why: "the memory for contexts has no room left" }
                } else {
                    Refusal::PoolExhausted {
                        needed: shortage.needed,
                        free: shortage.free,
                        total: shortage.total,
                    }
                };
                sequence.fail(refusal, progress, now, tally);
            });
        }
        step
    }

    /// Have the step computed: at once, or while others have their turn.
    fn run(
        &mut self,
        step: Step,
        tally: &mut Tally,
        step_begins: impl FnOnce(Glance, &mut Tally, Instant),
    ) -> Result<Option<Computed>, Broken> {
        let began = self.config.clock.now();
        step_begins(self.glance(), tally, began);
        reach_step(&self.config.holds)?;
        let step = Arc::new(step);
        let inbox = self.inbox.clone();
        // An engine that has ended has nothing to look at.
        let bell = Box::new(move || drop(inbox.send(Command::Stepped)));
        let begun = self.runner.begin(&step, std::mem::take(&mut self.output), bell)?;
        self.under_way = Some(UnderWay { step, began });
        match begun {
            Begun::Done(output) => Ok(self.computed(output)),
            Begun::UnderWay => Ok(None),
        }
    }

    /// Look whether the device is done.
    fn poll(&mut self) -> Result<Option<Computed>, Broken> {
        match self.runner.poll()? {
            Some(output) => Ok(self.computed(output)),
            None if self.step_deadline().is_some_and(|at| self.config.clock.now() >= at) => {
                let seconds = STEP_LIMIT.as_secs();
                Err(Broken::Worker(format!("the device has not finished a step within {seconds} s")))
            }
            None => Ok(None),
        }
    }

    fn computed(&mut self, output: StepOutput) -> Option<Computed> {
        self.output = output;
        let UnderWay { step, began } = self.under_way.take()?;
        Some(Computed { step, took: self.config.clock.now().saturating_duration_since(began) })
    }

    /// Choose a token for every row that came to its end, and send it.
    fn sample(&mut self, computed: &Computed, tally: &mut Tally) -> Sampled {
        let Computed { step, took } = computed;
        let now = self.config.clock.now();
        let n_tokens: usize = step.rows.iter().map(Row::len).sum();
        self.budget.observe(n_tokens, *took);
        let mut n_prompt_tokens = 0;
        for row in &step.rows {
            let n_prompt = self.scheduler.progress(row.seq).unwrap_or_default().n_prompt;
            if let Some(sequence) = self.sequences.get_mut(&row.seq) {
                n_prompt_tokens += sequence.computed(row, n_prompt);
            }
        }
        tally.step(step.rows.len(), n_tokens, n_prompt_tokens, *took);

        let mut logit_rows = self.output.logits.origin.iter().enumerate().peekable();
        let mut sampled = Sampled::default();
        for (row_idx, row) in step.rows.iter().enumerate() {
            if row.wanted.logits_of(row.len()).is_empty() {
                continue;
            }
            let mut last = None;
            while let Some((logit_idx, _)) = logit_rows.next_if(|(_, (origin, _))| *origin <= row_idx) {
                last = Some(logit_idx);
            }
            let Some(sequence) = self.sequences.get_mut(&row.seq) else { continue };
            let values = last.map_or(&[][..], |logit_idx| self.output.logits.row(logit_idx));
            match sequence.sample(values, &mut self.scratch, &self.card.text, now, tally) {
                Ok(Taken::More(token)) => sampled.tokens.push((row.seq, token)),
                Ok(Taken::Last(token, reason)) => {
                    sampled.tokens.extend(token.map(|token| (row.seq, token)));
                    sampled.finished.push((row.seq, reason));
                }
                Err(CannotSample::Stuck(error)) => sampled.stuck.push((row.seq, error)),
                Err(CannotSample::NotFinite(error)) => {
                    tracing::error!(request = %sequence.request_id, %error, "the model's output cannot be used");
                    sampled.broken.push(row.seq);
                }
            }
        }
        sampled
    }

    /// Before anybody is told: one row may be its request's own fault, a model that computes no numbers is not.
    ///
    /// # Errors
    /// It computes nothing at all.
    fn check_soundness(&mut self, sampled: &Sampled) -> Result<(), Broken> {
        if sampled.is_all_broken() && !is_sound(&mut self.scheduler, self.runner.as_mut())? {
            return Err(Broken::Model);
        }
        Ok(())
    }

    /// Book the step, end what is complete, and do what had to wait for that.
    fn commit(&mut self, step: &Step, sampled: Sampled, tally: &mut Tally) {
        let now = self.config.clock.now();
        // Before the commit, so that what this step wrote for them never becomes cache.
        for id in sampled.broken {
            self.end_broken(id, now, tally);
        }
        let committed = self.scheduler.commit(step, &sampled.tokens);
        self.follow_checkpoints(tally);
        for id in std::mem::take(&mut self.admitted) {
            self.saving.complete(id, &mut self.scheduler);
        }
        for row in &step.rows {
            self.note_progress(row.seq);
        }
        for (id, reason) in sampled.finished {
            self.finish(id, reason, now, tally);
        }
        for (id, error) in sampled.stuck {
            let refusal = Refusal::Invalid { param: "response_format", message: error.to_string() };
            self.end(id, refusal, now, tally);
        }
        // Those that just finished are among them.
        for id in committed.at_limit {
            let reason =
                self.sequences.get_mut(&id).map(|sequence| sequence.last_words(FinishReason::Length));
            if let Some(reason) = reason {
                self.finish(id, reason, now, tally);
            }
        }
        self.catch_up();
        let n_evictions = self.scheduler.pool().n_evictions;
        tally.totals.evictions += n_evictions - self.n_evictions;
        self.n_evictions = n_evictions;
        if std::mem::take(&mut self.is_short_of_states) {
            self.write_states_for_room();
        }
        self.save(SaveReason::Tail);
    }

    fn finish(&mut self, id: SeqId, reason: FinishReason, now: Instant, tally: &mut Tally) {
        self.take(id, |sequence, progress| sequence.finish(reason, progress, now, tally));
    }
}
