//! One model of the engine's: where it is in its lifecycle, with what belongs to that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::rebuilds::Rebuilds;
use crate::inbox::question::Question;
use crate::lifecycle::{Drain, ModelTransition};
use crate::stepping::at_work::AtWork;
use crate::told::load_progress::LoadProgress;
use crate::told::model_name::ModelName;
use crate::told::state::{Failure, IllegalTransition, ModelState};
use crate::told::stats::{ActiveRequest, ModelStats};

/// A model that has a name, whether it is here or not.
pub(crate) struct Model {
    pub(crate) name: ModelName,
    pub(crate) seat: Seat,
    /// How far the last load got.
    pub(crate) progress: LoadProgress,
    pub(crate) rebuilds: Rebuilds,
    /// When a request was last submitted to it, or when it came.
    pub(crate) last_used: Instant,
}

/// Where a model is, with what it has there. Its [`ModelState`] follows from it.
pub(crate) enum Seat {
    Absent,
    Loading(Load),
    Ready(AtWork),
    Leaving(AtWork, Leave),
    Failed(Failure),
}

/// A load under way. Where it is dropped before its end, its thread breaks off.
pub(crate) struct Load {
    /// Which one; another than this is out of date.
    pub(crate) ticket: u64,
    /// What it has asked for and waits for.
    pub(crate) question: Option<Question>,
    /// What its thread looks at.
    pub(crate) is_wanted: Arc<AtomicBool>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Relaxed);
    }
}

/// A model on its way out.
pub(crate) struct Leave {
    pub(crate) deadline: Instant,
    pub(crate) drain: Drain,
}

impl Model {
    pub(crate) fn new(name: ModelName, now: Instant) -> Model {
        let (seat, progress) = (Seat::Absent, LoadProgress::default());
        Model { name, seat, progress, rebuilds: Rebuilds::default(), last_used: now }
    }

    /// Where it is, as others may know it.
    pub(crate) fn state(&self) -> ModelState {
        match &self.seat {
            Seat::Absent => ModelState::Absent,
            Seat::Loading(_) => ModelState::Loading,
            Seat::Ready(_) => ModelState::Ready,
            Seat::Leaving(_, leave) => ModelState::Leaving { deadline: leave.deadline },
            Seat::Failed(failure) => ModelState::Failed(failure.clone()),
        }
    }

    /// Hold that `transition` is legal now.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn check(&self, transition: &ModelTransition) -> Result<ModelState, IllegalTransition> {
        let state = self.state();
        let illegal = IllegalTransition { what: transition.name(), state: state.name() };
        state.after(transition).ok_or(illegal)
    }

    /// Take another seat, where `transition` leads; the old one comes back.
    ///
    /// # Errors
    /// The transition is not legal, and nothing has changed.
    pub(crate) fn sit(
        &mut self,
        transition: &ModelTransition,
        seat: Seat,
    ) -> Result<Seat, IllegalTransition> {
        let to = self.check(transition)?;
        let from = self.state();
        let old = std::mem::replace(&mut self.seat, seat);
        debug_assert_eq!(self.state(), to, "the seat is the one that the table names");
        if from != to {
            tracing::info!(model = %self.name, from = from.name(), to = to.name(), "model");
        }
        Ok(old)
    }

    /// From ready to leaving.
    pub(crate) fn leave(&mut self, leave: Leave) {
        self.seat = match std::mem::replace(&mut self.seat, Seat::Absent) {
            Seat::Ready(work) => Seat::Leaving(work, leave),
            other => other,
        };
    }

    /// What is at work, ready or leaving.
    pub(crate) fn at_work(&self) -> Option<&AtWork> {
        match &self.seat {
            Seat::Ready(work) | Seat::Leaving(work, _) => Some(work),
            Seat::Absent | Seat::Loading(_) | Seat::Failed(_) => None,
        }
    }

    /// As [`Model::at_work`].
    pub(crate) fn at_work_mut(&mut self) -> Option<&mut AtWork> {
        match &mut self.seat {
            Seat::Ready(work) | Seat::Leaving(work, _) => Some(work),
            Seat::Absent | Seat::Loading(_) | Seat::Failed(_) => None,
        }
    }

    /// The load of this ticket, if it is the one that is under way.
    pub(crate) fn load_mut(&mut self, ticket: u64) -> Option<&mut Load> {
        match &mut self.seat {
            Seat::Loading(load) if load.ticket == ticket => Some(load),
            _ => None,
        }
    }

    /// Its numbers, and how far its requests are.
    pub(crate) fn stats(&self) -> (ModelStats, Vec<ActiveRequest>) {
        let glance = self.at_work().map(AtWork::glance).unwrap_or_default();
        let stats = ModelStats {
            name: self.name.clone(),
            state: self.state(),
            load: self.progress,
            pool: glance.pool,
            n_running: glance.n_running,
            n_waiting: glance.n_waiting,
        };
        (stats, glance.active)
    }
}
