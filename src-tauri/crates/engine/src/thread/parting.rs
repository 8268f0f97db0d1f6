//! How things end: the server's drain, a model's leaving. What runs finishes or is told why not, and the store has
//! everything before anybody is told that it is over.

use std::time::Instant;

use super::door::Door;
use super::engine_thread::EngineThread;
use crate::inbox::command::{Command, Reply};
use crate::lifecycle::{Drain, Flush, ModelTransition, ServerTransition, state_of};
use crate::models::model::{Leave, Model, Seat};
use crate::told::model_name::ModelName;
use crate::told::request::Refusal;
use crate::told::state::{After, IllegalTransition, ModelState, ServerState};
use crate::told::stats::DrainReport;

impl EngineThread {
    pub(super) fn begin_drain(&mut self, then: After, deadline: Instant, reply: Option<Reply<DrainReport>>) {
        let transition = ServerTransition::Drain { then, deadline };
        let was_draining = matches!(self.door, Door::Draining { .. });
        let has_anything = |model: &Model| !matches!(model.seat, Seat::Absent | Seat::Failed(_));
        // Parking keeps what is there; where nothing is there, it would only hide why.
        let is_pointless =
            then == After::Park && matches!(self.door, Door::Open) && !self.models.iter().any(has_anything);
        if is_pointless || self.door.state().after(&transition).is_none() {
            let error = self.illegal(transition.name());
            tracing::debug!(%error, "a drain was asked for");
            if let Some(reply) = reply {
                let _ = reply.send(Err(error));
            }
            return;
        }
        let now = self.config.clock.now();
        let tally = &mut self.tally;
        self.door.follow(&transition, || {
            tally.totals.drains += 1;
            Drain::begin(None, now, tally)
        });
        let Door::Draining { drain, .. } = &mut self.door else {
            if let Some(reply) = reply {
                let _ = reply.send(Ok(DrainReport::default()));
            }
            return;
        };
        drain.tell(reply);
        if !was_draining {
            let n_refused = self.refuse_all_waiting(now);
            if let Door::Draining { drain, .. } = &mut self.door {
                drain.n_refused = n_refused;
            }
        }
        tracing::info!(then = then.name(), was_draining, "draining");
        self.publish();
    }

    fn refuse_all_waiting(&mut self, now: Instant) -> usize {
        let refusal = Refusal::unavailable(&state_of(&self.door.state(), &ModelState::Ready), now);
        let mut n_refused = 0;
        for idx in 0..self.models.len() {
            let of_model = self.with_work(idx, |work, tally| work.refuse_waiting(&refusal, now, tally));
            n_refused += of_model.unwrap_or(0);
        }
        n_refused
    }

    /// A model is to finish what runs and to go.
    pub(super) fn begin_leaving(
        &mut self,
        model: &ModelName,
        deadline: Instant,
        reply: Option<Reply<DrainReport>>,
    ) {
        let now = self.config.clock.now();
        let Some(idx) = self.find(model) else {
            if let Some(reply) = reply {
                let _ = reply.send(Ok(DrainReport::default()));
            }
            return;
        };
        let transition = ModelTransition::Leave { deadline };
        match &mut self.models[idx].seat {
            // Out of its seat and into the other one, which the table allows.
            Seat::Ready(_) => {
                let mut drain = Drain::begin(Some(model.clone()), now, &self.tally);
                drain.tell(reply);
                let refusal = Refusal::unavailable(&state_of(&ServerState::Open, &ModelState::Absent), now);
                let refused = self.with_work(idx, |work, tally| work.refuse_waiting(&refusal, now, tally));
                drain.n_refused = refused.unwrap_or(0);
                self.models[idx].leave(Leave { deadline, drain });
                // It may have nothing left to do.
                self.pace.is_busy = true;
                tracing::info!(%model, "leaving");
            }
            Seat::Leaving(_, leave) => {
                leave.deadline = leave.deadline.min(deadline);
                leave.drain.tell(reply);
            }
            Seat::Absent | Seat::Loading(_) | Seat::Failed(_) => {
                let gone = self.models[idx].sit(&transition, Seat::Absent);
                if let Err(error) = gone {
                    tracing::error!(%error, "a model that cannot leave");
                }
                self.budget.give_back(model);
                self.shared.left(model);
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(DrainReport::default()));
                }
            }
        }
        self.publish();
    }

    /// End what has no more time. Before the step, which may be long.
    pub(super) fn meet_deadlines(&mut self) {
        let now = self.config.clock.now();
        let of_server = match self.door {
            Door::Draining { deadline, .. } => Some(deadline),
            _ => None,
        };
        for idx in 0..self.models.len() {
            let of_model = match &self.models[idx].seat {
                Seat::Leaving(_, leave) => Some(leave.deadline),
                _ => None,
            };
            if of_server.into_iter().chain(of_model).min().is_some_and(|deadline| now >= deadline) {
                self.with_work(idx, |work, tally| work.interrupt(now, tally));
            }
        }
    }

    /// Have the store flushed for those models that have nothing left to do; then they are gone.
    pub(super) fn advance_leaving(&mut self) {
        for idx in 0..self.models.len() {
            self.advance_leaving_of(idx);
        }
    }

    fn advance_leaving_of(&mut self, idx: usize) {
        if !matches!(self.models[idx].seat, Seat::Leaving(..)) {
            return;
        }
        if self.with_work(idx, |work, _| work.is_done()) != Some(true) {
            return;
        }
        let Seat::Leaving(_, leave) = &self.models[idx].seat else { return };
        match leave.drain.flush {
            Flush::NotBegun => {
                let ticket = self.flush_store();
                if let Seat::Leaving(_, leave) = &mut self.models[idx].seat {
                    leave.drain.flush = Flush::UnderWay(ticket);
                }
            }
            Flush::UnderWay(_) => {}
            Flush::Done => {
                let name = self.models[idx].name.clone();
                match self.models[idx].sit(&ModelTransition::Left, Seat::Absent) {
                    Ok(Seat::Leaving(work, leave)) => {
                        // Its memory is given back before anybody hears of it.
                        drop(work);
                        self.budget.give_back(&name);
                        self.shared.left(&name);
                        let report = leave.drain.report(self.config.clock.now(), &self.tally);
                        self.publish();
                        leave.drain.answer(report);
                        tracing::info!(model = %name, took = ?report.took, "left");
                    }
                    Ok(_) => {}
                    Err(error) => tracing::error!(%error, "a model that cannot leave"),
                }
            }
        }
    }

    /// Flush the store once nobody runs; then move on.
    pub(super) fn advance_drain(&mut self) {
        let Door::Draining { .. } = self.door else { return };
        let mut is_done = true;
        for idx in 0..self.models.len() {
            is_done &= self.with_work(idx, |work, _| work.is_done()) != Some(false);
        }
        if !is_done {
            return;
        }
        let Door::Draining { drain, .. } = &self.door else { return };
        match drain.flush {
            Flush::NotBegun if self.config.holds.is_held("flush") => self.pace.is_held = true,
            Flush::NotBegun => {
                let ticket = self.flush_store();
                if let Door::Draining { drain, .. } = &mut self.door {
                    drain.flush = Flush::UnderWay(ticket);
                }
            }
            Flush::UnderWay(_) => {}
            Flush::Done => self.end_drain(),
        }
    }

    /// Ask the store to make everything durable; it says so under the ticket.
    fn flush_store(&mut self) -> u64 {
        self.n_tickets += 1;
        let (ticket, to_self) = (self.n_tickets, self.to_self.clone());
        self.config.store.flush(Box::new(move |report| {
            if report.n_failed > 0 {
                tracing::warn!(report.n_failed, "blocks could not be saved");
            }
            // An engine that has ended waits for nothing.
            let _ = to_self.send(Command::Flushed { ticket });
        }));
        ticket
    }

    pub(super) fn flushed(&mut self, ticket: u64) {
        let of_server = match &mut self.door {
            Door::Draining { drain, .. } => Some(drain),
            _ => None,
        };
        let of_models = self.models.iter_mut().filter_map(|model| match &mut model.seat {
            Seat::Leaving(_, leave) => Some(&mut leave.drain),
            _ => None,
        });
        for drain in of_server.into_iter().chain(of_models) {
            if drain.flush == Flush::UnderWay(ticket) {
                drain.flush = Flush::Done;
            }
        }
    }

    fn end_drain(&mut self) {
        let now = self.config.clock.now();
        let Door::Draining { then, drain, .. } = &self.door else { return };
        let (then, report) = (*then, drain.report(now, &self.tally));
        self.windows.stats.last_drain = Some(report);
        self.tally.drained(&report);
        self.publish();
        if then == After::Exit {
            // Whoever sees `Stopped` may end the process, and what lies on a GPU must be gone by then.
            self.models.iter_mut().for_each(|model| model.seat = Seat::Absent);
        }
        let drain = self.door.follow(&ServerTransition::Drained, || unreachable!("it has begun"));
        self.publish();
        if let Some(drain) = drain {
            drain.answer(report);
        }
        tracing::info!(report.n_drained, report.n_interrupted, report.n_refused, took = ?report.took, "drained");
    }

    pub(super) fn resume(&mut self) -> Result<(), IllegalTransition> {
        if self.door.state().after(&ServerTransition::Resume).is_none() {
            return Err(self.illegal(ServerTransition::Resume.name()));
        }
        let drain = self.door.follow(&ServerTransition::Resume, || unreachable!("a resume begins no drain"));
        if let Some(drain) = drain {
            let took = self.config.clock.now().saturating_duration_since(drain.since);
            self.tally.totals.drain_seconds += took.as_secs_f64();
            drain.cancel(self.state().name());
        }
        self.publish();
        Ok(())
    }
}
