//! A loaded model at work, whatever it is for: what the engine thread asks of each.

use std::time::Instant;

use super::embedding::Embedding;
use super::glance::Glance;
use super::serving::Serving;
use super::turn::{Broken, Turn};
use crate::inbox::command::{EmbedSubmission, Submission};
use crate::tally::Tally;
use crate::told::card::ModelCard;
use crate::told::request::Refusal;

/// A loaded model, by what it is for.
pub(crate) enum AtWork {
    Generating(Box<Serving>),
    Embedding(Box<Embedding>),
}

impl AtWork {
    fn card(&self) -> &ModelCard {
        match self {
            AtWork::Generating(serving) => &serving.card,
            AtWork::Embedding(embedding) => &embedding.card,
        }
    }

    /// One that generates, which alone has a pool, agents and something to save.
    pub(crate) fn generating(&self) -> Option<&Serving> {
        match self {
            AtWork::Generating(serving) => Some(serving),
            AtWork::Embedding(_) => None,
        }
    }

    /// As [`AtWork::generating`].
    pub(crate) fn generating_mut(&mut self) -> Option<&mut Serving> {
        match self {
            AtWork::Generating(serving) => Some(serving),
            AtWork::Embedding(_) => None,
        }
    }

    /// Take a request for text, or refuse it at once.
    pub(crate) fn submit(&mut self, submission: Submission, tally: &mut Tally) {
        match self {
            AtWork::Generating(serving) => serving.submit(submission, tally),
            AtWork::Embedding(_) => submission.refuse(self.card().refuses_to_generate()),
        }
    }

    /// Take a request for vectors, or refuse it at once.
    pub(crate) fn embed(&mut self, submission: EmbedSubmission, tally: &mut Tally) {
        match self {
            AtWork::Embedding(embedding) => embedding.submit(submission, tally),
            AtWork::Generating(_) => submission.refuse(self.card().refuses_to_embed()),
        }
    }

    /// Compute something for every request that can go on, as far as that is possible now. `step_begins` is called before
    /// a step that may keep this thread.
    ///
    /// # Errors
    /// The worker is void, and with it everything here.
    pub(crate) fn turn(
        &mut self,
        tally: &mut Tally,
        step_begins: impl FnOnce(Glance, &mut Tally, Instant),
    ) -> Result<Turn, Broken> {
        match self {
            AtWork::Generating(serving) => {
                let turn = serving.turn(tally, step_begins);
                serving.show_residency();
                turn
            }
            AtWork::Embedding(embedding) => embedding.turn(tally, step_begins),
        }
    }

    /// Whether there is nothing left to compute and everything is with the store; what is not is offered.
    pub(crate) fn is_done(&mut self) -> bool {
        match self {
            AtWork::Generating(serving) => serving.is_done(),
            AtWork::Embedding(embedding) => embedding.is_empty(),
        }
    }

    /// Refuse what has not begun, because the model goes or the server drains. Returns how many that were.
    pub(crate) fn refuse_waiting(&mut self, refusal: &Refusal, now: Instant, tally: &mut Tally) -> usize {
        match self {
            AtWork::Generating(serving) => serving.refuse_waiting(refusal, now, tally),
            AtWork::Embedding(embedding) => embedding.refuse_waiting(refusal, now, tally),
        }
    }

    /// The deadline of a drain has passed: end what still runs.
    pub(crate) fn interrupt(&mut self, now: Instant, tally: &mut Tally) {
        match self {
            AtWork::Generating(serving) => serving.interrupt(now, tally),
            AtWork::Embedding(embedding) => embedding.interrupt(now, tally),
        }
    }

    /// The worker is lost: every request ends. Those that wait are told `waiting`.
    pub(crate) fn abandon(self, waiting: &Refusal, now: Instant, tally: &mut Tally) {
        match self {
            AtWork::Generating(serving) => serving.abandon(waiting, now, tally),
            AtWork::Embedding(embedding) => embedding.abandon(waiting, now, tally),
        }
    }

    /// Whether nobody wants anything of it.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            AtWork::Generating(serving) => serving.is_empty(),
            AtWork::Embedding(embedding) => embedding.is_empty(),
        }
    }

    /// When something is due: a request will have waited too long, or a device has computed for too long.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self {
            AtWork::Generating(serving) => {
                serving.next_deadline().into_iter().chain(serving.step_deadline()).min()
            }
            AtWork::Embedding(embedding) => embedding.next_deadline(),
        }
    }

    /// What it has now.
    pub(crate) fn glance(&self) -> Glance {
        match self {
            AtWork::Generating(serving) => serving.glance(),
            AtWork::Embedding(embedding) => embedding.glance(),
        }
    }
}
