//! What the engine thread shows of itself: its state and its numbers.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::models::model::Model;
use crate::stepping::glance::Glance;
use crate::tally::Tally;
use crate::told::model_name::ModelName;
use crate::told::state::State;
use crate::told::stats::{ActiveRequest, ModelStats, N_ACTIVE, PoolCounts, Stats};

/// What the thread publishes.
pub(super) struct Windows {
    pub(super) state: watch::Sender<State>,
    pub(super) stats: Stats,
    pub(super) stats_sender: watch::Sender<Stats>,
    /// The numbers and the requests of each model.
    models: Vec<(ModelStats, Vec<ActiveRequest>)>,
}

/// A thread that ends without a drain is seen to have ended.
impl Drop for Windows {
    fn drop(&mut self) {
        self.state.send_replace(State::Stopped);
    }
}

impl Windows {
    pub(super) fn new(
        state: watch::Sender<State>,
        stats: Stats,
        stats_sender: watch::Sender<Stats>,
    ) -> Windows {
        Windows { state, stats, stats_sender, models: Vec::new() }
    }

    /// Note what the models have; the first one is the default.
    pub(super) fn look_at(&mut self, models: &[Model]) {
        self.models = models.iter().map(Model::stats).collect();
        self.sum_up();
    }

    fn sum_up(&mut self) {
        let models: Arc<[ModelStats]> = self.models.iter().map(|(stats, _)| stats.clone()).collect();
        let first = models.first();
        self.stats.load = first.map(|first| first.load).unwrap_or_default();
        self.stats.pool = first.map_or(PoolCounts::default(), |first| first.pool);
        self.stats.n_running = models.iter().map(|model| model.n_running).sum();
        self.stats.n_waiting = models.iter().map(|model| model.n_waiting).sum();
        let active = self.models.iter().flat_map(|(_, active)| active);
        self.stats.active = active.take(N_ACTIVE).cloned().collect();
        self.stats.models = models;
    }

    /// A model's step begins: it may take long, and what has ended before it is said now.
    pub(super) fn step_begins(&mut self, now: Instant, model: &ModelName, glance: Glance, tally: &mut Tally) {
        if let Some((stats, active)) = self.models.iter_mut().find(|(stats, _)| stats.name == *model) {
            stats.pool = glance.pool;
            stats.n_running = glance.n_running;
            stats.n_waiting = glance.n_waiting;
            *active = glance.active;
        }
        self.sum_up();
        self.stats.heartbeat = now;
        self.stats.totals = tally.totals.clone();
        self.stats.step_started = Some(now);
        self.stats_sender.send_replace(self.stats.clone());
        tally.tell();
    }

    pub(super) fn show(&mut self, state: State) {
        self.state.send_if_modified(|shown| {
            let is_new = *shown != state;
            if is_new {
                tracing::info!(from = shown.name(), to = state.name(), "engine");
                *shown = state;
            }
            is_new
        });
    }
}
