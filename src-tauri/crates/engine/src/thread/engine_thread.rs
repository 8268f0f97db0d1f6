//! The engine thread: it owns everything mutable, reads one inbox, and gives each model its turn.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use store::{OfModels, StoreEvent};

use super::door::Door;
use super::windows::Windows;
use crate::config::EngineConfig;
use crate::inbox::agent_ask::{AgentAct, AgentAsk};
use crate::inbox::command::{Command, EmbedSubmission, Submission};
use crate::lifecycle::state_of;
use crate::models::budget::MemoryBudget;
use crate::models::model::{Model, Seat};
use crate::panic_text::panic_text;
use crate::shared::Shared;
use crate::stepping::at_work::AtWork;
use crate::stepping::postponed::Postponed;
use crate::stepping::serving::Serving;
use crate::stepping::turn::{Broken, Turn};
use crate::tally::Tally;
use crate::told::loader::ModelLoader;
use crate::told::model_name::ModelName;
use crate::told::request::Refusal;
use crate::told::state::{IllegalTransition, ModelState, ServerState, State};
use crate::told::stats::{DrainProgress, DrainReport, Stats, StoreCounts};

/// How often an idle engine thread gives a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How often it looks at sequences that wait for something that sends no message: a client that goes away.
const WATCH: Duration = Duration::from_millis(100);

/// How old the published numbers of the store get while it works.
const STORE_LOOK: Duration = Duration::from_millis(200);

/// How often it looks whether a test has released it, or a store with a full queue has room again.
const POLL: Duration = Duration::from_millis(5);

/// Owns models, sequences and both lifecycles.
pub(crate) struct EngineThread {
    pub(super) config: EngineConfig,
    pub(super) inbox: Receiver<Command>,
    /// For what loaders and store send back.
    pub(super) to_self: Sender<Command>,
    pub(super) loader: Arc<dyn ModelLoader>,
    pub(super) windows: Windows,
    pub(super) door: Door,
    /// In the order in which they were first named; the first one is the default.
    pub(super) models: Vec<Model>,
    pub(super) budget: MemoryBudget,
    pub(super) tally: Tally,
    pub(super) shared: Arc<Shared>,
    pub(super) n_tickets: u64,
    /// Which model is dealt with; it is the one that a panic is about.
    dealing_with: Option<usize>,
    /// What the last turns came to.
    pub(super) pace: Pace,
    /// When its numbers were looked at last.
    store_seen: Option<Instant>,
}

/// How soon there is something to do again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// Something was computed, so the next turn may compute something too.
    pub(super) is_busy: bool,
    /// A test holds a step or a flush.
    pub(super) is_held: bool,
}

/// What the thread is started with.
pub(crate) struct Parts {
    pub(crate) config: EngineConfig,
    pub(crate) inbox: Receiver<Command>,
    pub(crate) to_self: Sender<Command>,
    pub(crate) loader: Arc<dyn ModelLoader>,
    pub(crate) state: tokio::sync::watch::Sender<State>,
    pub(crate) stats: Stats,
    pub(crate) stats_sender: tokio::sync::watch::Sender<Stats>,
    pub(crate) shared: Arc<Shared>,
}

impl EngineThread {
    pub(crate) fn new(parts: Parts) -> EngineThread {
        let Parts { config, inbox, to_self, loader, state, stats, stats_sender, shared } = parts;
        let default = Model::new(config.default_model.clone(), config.clock.now());
        EngineThread {
            inbox,
            to_self,
            loader,
            windows: Windows::new(state, stats, stats_sender),
            door: Door::Open,
            models: vec![default],
            budget: MemoryBudget::new(Arc::clone(&config.memory_limit)),
            tally: Tally::new(Arc::clone(&shared)),
            shared,
            n_tickets: 0,
            dealing_with: None,
            pace: Pace::default(),
            store_seen: None,
            config,
        }
    }

    /// Load the default model and go on until a drain to exit is over.
    pub(crate) fn run(mut self) {
        self.begin_load(0).expect("a fresh model is absent, and that allows to load");
        while self.door.state() != ServerState::Stopped {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.turn())) {
                let text = panic_text(panic.as_ref());
                // Unwinding leaves the sequences of a step half done. All of that is in the model, which goes.
                let is_of_model =
                    self.dealing_with.take().filter(|idx| self.models[*idx].at_work().is_some());
                let Some(idx) = is_of_model else {
                    tracing::error!("the engine thread panicked outside a model: {text}");
                    resume_unwind(panic);
                };
                self.worker_failed(idx, &Broken::Worker(text));
            }
        }
        self.say_goodbye();
    }

    fn turn(&mut self) {
        self.read_inbox();
        self.meet_deadlines();
        self.step();
        self.advance_leaving();
        self.forget_absent_models();
        self.decide_about_memory();
        self.advance_drain();
        self.publish();
    }

    /// Give each model that is here its turn.
    fn step(&mut self) {
        self.pace = Pace::default();
        for idx in 0..self.models.len() {
            let EngineThread { tally, windows, .. } = self;
            let name = self.models[idx].name.clone();
            let Some(work) = self.models[idx].at_work_mut() else { continue };
            self.dealing_with = Some(idx);
            let turn = work.turn(tally, |glance, tally, now| windows.step_begins(now, &name, glance, tally));
            self.dealing_with = None;
            match turn {
                Ok(Turn::Computed) => self.pace.is_busy = true,
                Ok(Turn::Held) => self.pace.is_held = true,
                Ok(Turn::Idle) => {}
                Err(broken) => self.worker_failed(idx, &broken),
            }
        }
    }

    /// Only the default model is in the list while it is not here.
    fn forget_absent_models(&mut self) {
        let default = self.config.default_model.clone();
        self.models.retain(|model| model.name == default || !matches!(model.seat, Seat::Absent));
    }

    /// Do something with a model that is at work.
    pub(super) fn with_work<T>(
        &mut self,
        idx: usize,
        act: impl FnOnce(&mut AtWork, &mut Tally) -> T,
    ) -> Option<T> {
        self.dealing_with = Some(idx);
        let done = self.models[idx].at_work_mut().map(|work| act(work, &mut self.tally));
        self.dealing_with = None;
        done
    }

    /// The same with one that generates.
    fn with_serving<T>(&mut self, idx: usize, act: impl FnOnce(&mut Serving) -> T) -> Option<T> {
        self.with_work(idx, |work, _| work.generating_mut().map(act)).flatten()
    }

    /// Where a model is in the list, if it was ever named.
    pub(super) fn find(&self, model: &ModelName) -> Option<usize> {
        self.models.iter().position(|known| known.name == *model)
    }

    /// Busy: empty the inbox without waiting. Idle: wait for it, until the next thing is due.
    fn read_inbox(&mut self) {
        let mut wait = self.wait();
        loop {
            let command = if wait.is_zero() {
                self.inbox.try_recv().map_err(|_| RecvTimeoutError::Timeout)
            } else {
                self.inbox.recv_timeout(wait)
            };
            // It cannot disconnect: we hold a sender ourselves.
            let Ok(command) = command else { return };
            self.obey(command);
            wait = Duration::ZERO;
        }
    }

    fn wait(&self) -> Duration {
        let at_work = || self.models.iter().filter_map(Model::at_work);
        let is_behind = at_work().filter_map(AtWork::generating).any(|s| s.saving.is_behind());
        let has_requests = at_work().any(|work| !work.is_empty());
        let most = match () {
            () if self.pace.is_busy => return Duration::ZERO,
            () if self.pace.is_held || is_behind => POLL,
            () if has_requests => WATCH,
            () => HEARTBEAT,
        };
        let drain = match self.door {
            Door::Draining { deadline, .. } if has_requests => Some(deadline),
            _ => None,
        };
        let leaving = self.models.iter().filter_map(|model| match &model.seat {
            Seat::Leaving(work, leave) if !work.is_empty() => Some(leave.deadline),
            _ => None,
        });
        let of_models = at_work().filter_map(AtWork::next_deadline);
        let now = self.config.clock.now();
        let due = drain.into_iter().chain(leaving).chain(of_models);
        due.map(|at| at.saturating_duration_since(now)).fold(most, Duration::min)
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Load { model, reply } => {
                let idx = model.map_or(0, |model| self.find_or_add(model));
                self.models[idx].rebuilds.forget();
                // Whoever asked may have gone; so with every reply.
                let _ = reply.send(self.load_on_demand(idx));
            }
            Command::Needs { model, ticket, question } => {
                let load = self.find(&model).and_then(|idx| self.models[idx].load_mut(ticket));
                // A load that nobody waits for is told so by the question's end.
                if let Some(load) = load {
                    load.question = Some(question);
                }
            }
            Command::Progress { model, ticket, progress } => {
                if let Some(idx) = self.find(&model)
                    && self.models[idx].load_mut(ticket).is_some()
                {
                    self.models[idx].progress = progress;
                }
            }
            Command::Loaded { model, ticket, result } => {
                if let Some(idx) = self.find(&model)
                    && self.models[idx].load_mut(ticket).is_some()
                {
                    self.loaded(idx, result);
                }
            }
            Command::Flushed { ticket } => self.flushed(ticket),
            Command::Submit(submission) => self.submit(submission),
            Command::Embed(submission) => self.embed(submission),
            Command::Leave { model, deadline, reply } => self.begin_leaving(&model, deadline, reply),
            Command::Drain { then, deadline, reply } => self.begin_drain(then, deadline, reply),
            Command::Resume { reply } => {
                let _ = reply.send(self.resume());
            }
            Command::Restored { model, seq, piece, blocks } => {
                if let Some(idx) = self.find(&model) {
                    let found = Postponed::Restored { seq, piece, found: blocks };
                    self.with_serving(idx, |serving| serving.when_idle(found));
                }
            }
            Command::Store(event) => self.hear(&event),
            Command::Hurried { model } => {
                if let Some(idx) = self.find(&model) {
                    self.with_serving(idx, |serving| serving.is_hurrying = false);
                }
            }
            Command::Agents { ask, reply } if ask.what == AgentAct::Evict => {
                self.for_each_serving(&ask.of, |serving| serving.write_states_of(&ask.name));
                let to_self = self.to_self.clone();
                let ask = AgentAsk { what: AgentAct::EvictSaved, ..ask };
                self.config.store.flush(Box::new(move |_| {
                    let _ = to_self.send(Command::Agents { ask, reply });
                }));
            }
            Command::Agents { ask, reply } => {
                let is_known = self.obey_about_agents(&ask);
                let _ = reply.send(Ok(is_known));
            }
            // It is looked at in the model's turn.
            Command::Stepped => {}
            #[cfg(any(test, feature = "testing"))]
            Command::Wake => {}
        }
    }

    /// Returns whether there is such an agent.
    fn obey_about_agents(&mut self, ask: &AgentAsk) -> bool {
        let AgentAsk { name, of, what } = ask;
        let store = Arc::clone(&self.config.store);
        let is_known = match what {
            AgentAct::Pin(pin) => {
                let is_known = store.pin_agent(name, *of, *pin);
                self.for_each_serving(of, |serving| serving.repin_agent(name));
                is_known
            }
            AgentAct::Evict | AgentAct::EvictSaved => {
                self.for_each_serving(of, |serving| serving.evict_agent(name));
                store.agent(name).iter().any(|manifest| of.includes(&manifest.fingerprint))
            }
            AgentAct::Forget => {
                self.for_each_serving(of, |serving| serving.forget_agent(name));
                let agent = name.clone();
                let erased = move || tracing::info!(agent, "a forgotten agent's blocks are erased");
                store.delete_agent(name, *of, Box::new(erased))
            }
        };
        self.for_each_serving(of, Serving::show_residency);
        is_known
    }

    /// Do something with those models at work that are meant.
    fn for_each_serving(&mut self, of: &OfModels, act: impl Fn(&mut Serving)) {
        for idx in 0..self.models.len() {
            self.with_serving(idx, |serving| {
                if of.includes(&serving.card.fingerprint) {
                    act(serving);
                }
            });
        }
    }

    /// The store's threads have news.
    fn hear(&mut self, event: &StoreEvent) {
        match event {
            StoreEvent::Failing(trouble) => {
                tracing::warn!(trouble = trouble.name(), "nothing is saved to disk from now on");
                self.store_seen = None;
            }
            StoreEvent::Recovered => {
                tracing::info!("saving to disk works again");
                self.store_seen = None;
            }
            StoreEvent::Lost(keys) => {
                let n_blocks = keys.len();
                tracing::warn!(
                    n_blocks,
                    "files of the store were removed or cut: what they held is not saved"
                );
            }
            StoreEvent::Saved(_) | StoreEvent::NotSaved(_) => {}
        }
        for idx in 0..self.models.len() {
            self.with_serving(idx, |serving| serving.when_idle(Postponed::Hear(event.clone())));
        }
    }

    fn submit(&mut self, submission: Submission) {
        match self.find_ready(&submission.request.model) {
            Ok(idx) => {
                self.with_work(idx, |work, tally| work.submit(submission, tally));
            }
            Err(refusal) => submission.refuse(refusal),
        }
    }

    fn embed(&mut self, submission: EmbedSubmission) {
        match self.find_ready(&submission.request.model) {
            Ok(idx) => {
                self.with_work(idx, |work, tally| work.embed(submission, tally));
            }
            Err(refusal) => submission.refuse(refusal),
        }
    }

    /// Where a model is that a request is for, which is used by that.
    ///
    /// # Errors
    /// It takes no requests now.
    fn find_ready(&mut self, model: &ModelName) -> Result<usize, Refusal> {
        let now = self.config.clock.now();
        let server = self.door.state();
        let idx = self.find(model);
        let state = idx.map_or(ModelState::Absent, |idx| self.models[idx].state());
        match (&server, &state, idx) {
            (ServerState::Open, ModelState::Ready, Some(idx)) => {
                self.models[idx].last_used = now;
                Ok(idx)
            }
            _ => Err(Refusal::unavailable(&state_of(&server, &state), now)),
        }
    }

    /// What the users of the default model see.
    pub(super) fn state(&self) -> State {
        state_of(&self.door.state(), &self.models[0].state())
    }

    /// That something cannot be done now.
    pub(super) fn illegal(&self, what: &'static str) -> IllegalTransition {
        IllegalTransition { what, state: self.state().name() }
    }

    /// Show where everything stands, and that we are alive; then say what ended.
    pub(super) fn publish(&mut self) {
        self.windows.look_at(&self.models);
        let now = self.config.clock.now();
        let at_work = self.models.iter().filter_map(Model::at_work);
        let unsaved: u64 = at_work.filter_map(AtWork::generating).map(|s| s.saving.waiting_bytes()).sum();
        let stats = &mut self.windows.stats;
        stats.heartbeat = now;
        stats.step_started = None;
        stats.totals = self.tally.totals.clone();
        // It is not worth a look at every step.
        if self.store_seen.is_none_or(|seen| now.saturating_duration_since(seen) >= STORE_LOOK) {
            self.store_seen = Some(now);
            stats.store = StoreCounts::of(self.config.store.as_ref());
        }
        stats.drain = match &self.door {
            Door::Draining { drain, deadline, .. } => Some(DrainProgress {
                n_active: stats.n_running,
                unsaved_bytes: unsaved + self.config.store.stats().queued_bytes,
                since: drain.since,
                deadline: *deadline,
            }),
            Door::Open | Door::Parked | Door::Stopped => None,
        };
        self.windows.stats_sender.send_replace(self.windows.stats.clone());
        let state = self.state();
        self.windows.show(state);
        self.tally.tell();
    }

    /// Nobody reads the inbox any more: answer what is in it.
    fn say_goodbye(&mut self) {
        self.publish();
        let now = self.config.clock.now();
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Submit(submission) => submission.refuse(Refusal::unavailable(&State::Stopped, now)),
                Command::Embed(submission) => submission.refuse(Refusal::unavailable(&State::Stopped, now)),
                Command::Drain { reply: Some(reply), .. } => {
                    let _ = reply.send(Ok(DrainReport::default()));
                }
                // A dropped reply is answered by the handle: the engine is stopped.
                _ => {}
            }
        }
    }
}
