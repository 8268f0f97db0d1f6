//! How models come in: loads, the memory for them, and what becomes of a worker that failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::door::Door;
use super::engine_thread::EngineThread;
use crate::keeping::residency::Residency;
use crate::lifecycle::{ModelTransition, ServerTransition, state_of};
use crate::models::budget::{Verdict, no_room};
use crate::models::load::{LoadOrder, spawn_load};
use crate::models::model::{Load, Model, Seat};
use crate::panic_text::panic_text;
use crate::stepping::at_work::AtWork;
use crate::stepping::embedding::Embedding;
use crate::stepping::serving::Serving;
use crate::stepping::turn::Broken;
use crate::told::load_progress::LoadProgress;
use crate::told::loader::{Loaded, Runner};
use crate::told::model_name::ModelName;
use crate::told::request::Refusal;
use crate::told::state::{After, Failure, FailureKind, IllegalTransition, State};

impl EngineThread {
    /// Where a model is in the list, which it is put into if it was never named.
    pub(super) fn find_or_add(&mut self, model: ModelName) -> usize {
        self.find(&model).unwrap_or_else(|| {
            self.models.push(Model::new(model, self.config.clock.now()));
            self.models.len() - 1
        })
    }

    /// Somebody asks for a model. Where the server was parked because it had nothing to offer, it opens again.
    pub(super) fn load_on_demand(&mut self, idx: usize) -> Result<(), IllegalTransition> {
        let is_in_vain = matches!((&self.door, self.state()), (Door::Parked, State::Failed(_)));
        if !is_in_vain && !matches!(self.door, Door::Open) {
            return Err(self.illegal("load"));
        }
        self.begin_load(idx)?;
        if matches!(self.door, Door::Parked) {
            self.door.follow(&ServerTransition::Resume, || unreachable!("a resume begins no drain"));
        }
        self.publish();
        Ok(())
    }

    /// Load on a thread of its own.
    pub(super) fn begin_load(&mut self, idx: usize) -> Result<(), IllegalTransition> {
        self.n_tickets += 1;
        let ticket = self.n_tickets;
        let is_wanted = Arc::new(AtomicBool::new(true));
        let load = Load { ticket, question: None, is_wanted: Arc::clone(&is_wanted) };
        let model = &mut self.models[idx];
        model.sit(&ModelTransition::Load, Seat::Loading(load))?;
        model.progress = LoadProgress::default();
        let order = LoadOrder {
            model: model.name.clone(),
            ticket,
            restorable_bytes: self.config.store.stats().live_bytes,
            is_wanted,
            holds: self.config.holds.clone(),
            inbox: self.to_self.clone(),
        };
        // Before: whoever sees the loader at work finds the model loading.
        self.publish();
        spawn_load(Arc::clone(&self.loader), order);
        Ok(())
    }

    /// Answer the loaders that wait for memory, and have others leave where there is none.
    pub(super) fn decide_about_memory(&mut self) {
        for idx in 0..self.models.len() {
            let Seat::Loading(Load { question: Some(question), .. }) = &self.models[idx].seat else {
                continue;
            };
            let (name, needs) = (self.models[idx].name.clone(), question.needs);
            let answer = match self.budget.judge(&name, &needs, &self.who_may_leave(idx)) {
                Verdict::Granted { pool_bytes } => Ok(pool_bytes),
                Verdict::AfterLeaving(leaving) => {
                    let deadline = self.config.clock.now() + self.config.leave_timeout;
                    for model in leaving {
                        self.begin_leaving(&model, deadline, None);
                    }
                    continue;
                }
                Verdict::Refused { needed, available } => Err(no_room(&name, needed, available)),
            };
            if let Seat::Loading(load) = &mut self.models[idx].seat
                && let Some(question) = load.question.take()
            {
                // A loader that has died says so itself.
                let _ = question.reply.send(answer);
            }
        }
    }

    /// Models that may leave for the one at `idx`: idle ones, the least recently used first, and those that leave
    /// already.
    fn who_may_leave(&self, idx: usize) -> Vec<ModelName> {
        let may_leave = |model: &&Model| match &model.seat {
            Seat::Ready(work) => work.is_empty(),
            Seat::Leaving(..) => true,
            Seat::Absent | Seat::Loading(_) | Seat::Failed(_) => false,
        };
        let others = self.models.iter().enumerate().filter(|(other, _)| *other != idx);
        let mut idle: Vec<&Model> = others.map(|(_, model)| model).filter(may_leave).collect();
        idle.sort_by_key(|model| (matches!(model.seat, Seat::Ready(_)), model.last_used));
        idle.into_iter().map(|model| model.name.clone()).collect()
    }

    pub(super) fn loaded(&mut self, idx: usize, result: Result<Box<Loaded>, Failure>) {
        let name = self.models[idx].name.clone();
        match result {
            Ok(loaded) => {
                let work = self.put_to_work(name, *loaded);
                self.windows.stats.started |= idx == 0;
                self.models[idx].last_used = self.config.clock.now();
                if let Err(error) = self.models[idx].sit(&ModelTransition::Loaded, Seat::Ready(work)) {
                    tracing::error!(%error, "a model came in that nobody waited for");
                }
                self.publish();
            }
            Err(failure) => {
                tracing::error!(model = %name, kind = failure.kind.name(), "the model could not be loaded: {}", failure.text);
                self.budget.give_back(&name);
                self.fail(idx, failure);
                self.publish();
            }
        }
    }

    fn put_to_work(&mut self, name: ModelName, loaded: Loaded) -> AtWork {
        let Loaded { runner, card } = loaded;
        match runner {
            Runner::Generates(runner) => {
                let residency = Arc::new(Residency::new(runner.layout()));
                let answers = self.shared.came_in(&name, &card, Some(Arc::clone(&residency)));
                let inbox = self.to_self.clone();
                let serving = Serving::new(name, (runner, card), answers, residency, &self.config, inbox);
                AtWork::Generating(Box::new(serving))
            }
            Runner::Embeds(embedder) => {
                self.shared.came_in(&name, &card, None);
                AtWork::Embedding(Box::new(Embedding::new((embedder, card), &self.config)))
            }
        }
    }

    /// The pool is void and the runner not to be trusted: end everybody of this model, and build a new one.
    pub(super) fn worker_failed(&mut self, idx: usize, broken: &Broken) {
        let text = broken.to_string();
        let now = self.config.clock.now();
        let name = self.models[idx].name.clone();
        self.tally.totals.worker_failures += 1;
        let glance = self.models[idx].at_work().map(AtWork::glance).unwrap_or_default();
        let n_lost = glance.n_running + glance.n_waiting;
        tracing::error!(model = %name, n_lost, "the model's worker failed: {text}");
        self.shared.lost_pool(&name);
        // Whoever is told of the fault finds the model failed.
        let old = self.fail(idx, Failure::new(FailureKind::Worker, text));
        let failed = state_of(&self.door.state(), &self.models[idx].state());
        if let Some(Seat::Ready(work) | Seat::Leaving(work, _)) = old {
            let tally = &mut self.tally;
            let waiting = Refusal::unavailable(&failed, now);
            // A runner that broke may break again when it is dropped.
            let dropped = catch_unwind(AssertUnwindSafe(|| work.abandon(&waiting, now, tally)));
            if let Err(panic) = dropped {
                let text = panic_text(panic.as_ref());
                tracing::error!("the model's worker panicked while it was dropped: {text}");
            }
        }
        self.budget.give_back(&name);
        self.publish();
        // The same file would give the same model: that is for a person to try.
        let is_wanted = !matches!(self.door, Door::Draining { then: After::Exit, .. } | Door::Stopped);
        let may_rebuild = matches!(broken, Broken::Worker(_)) && self.models[idx].rebuilds.after_failure(now);
        if is_wanted
            && may_rebuild
            && let Err(error) = self.begin_load(idx)
        {
            tracing::error!(%error, "a failed worker is not rebuilt");
        }
        self.publish();
    }

    /// A model fails; what it had comes back.
    fn fail(&mut self, idx: usize, failure: Failure) -> Option<Seat> {
        let transition = ModelTransition::Fail(failure.clone());
        match self.models[idx].sit(&transition, Seat::Failed(failure)) {
            Ok(old) => Some(old),
            Err(error) => {
                tracing::error!(%error, "a failure that the state does not allow");
                None
            }
        }
    }
}
