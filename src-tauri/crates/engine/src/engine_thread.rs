//! The engine thread: it owns everything mutable, reads one inbox, and steps.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use scheduler::{RunError, StoreMode};
use store::StoreEvent;
use tokio::sync::{Semaphore, watch};

use crate::agents::{self, AgentAsk};
use crate::answers::Answers;
use crate::command::{Command, Reply, Submission};
use crate::config::EngineConfig;
use crate::drain::{Drain, Flush};
use crate::handle::{EngineHandle, Shared};
use crate::histograms::Histograms;
use crate::ledger::Ledger;
use crate::lifecycle::{After, FailureCause, IllegalTransition, State, Transition, next};
use crate::load::spawn_load;
use crate::loader::{Loaded, ModelLoader};
use crate::rebuilds::Rebuilds;
use crate::record::Records;
use crate::request::Refusal;
use crate::sequence::Sequence;
use crate::serving::Serving;
use crate::stats::{DrainProgress, DrainReport, Stats, StoreCounts};
use crate::windows::Windows;

/// How often an idle engine thread gives a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How often it looks at sequences that wait for something that sends no message: a client that goes away.
const WATCH: Duration = Duration::from_millis(100);

/// How old the published numbers of the store get while it works.
const STORE_LOOK: Duration = Duration::from_millis(200);

/// How often it looks whether a test has released it, or a store with a full queue has room again.
const POLL: Duration = Duration::from_millis(5);

/// Start the thread.
pub(crate) fn spawn(config: EngineConfig, loader: Arc<dyn ModelLoader>) -> (EngineHandle, JoinHandle<()>) {
    let (inbox_sender, inbox) = channel();
    let (state_sender, state_receiver) = watch::channel(State::Unloaded);
    let first_stats = Stats { heartbeat: config.clock.now(), ..Stats::default() };
    let (stats_sender, stats_receiver) = watch::channel(first_stats.clone());
    let shared = Arc::new(Shared {
        permits: Arc::new(Semaphore::new(config.max_requests)),
        histograms: Arc::new(Histograms::default()),
        records: Mutex::new(Records::default()),
        card: Mutex::new(None),
        answers: Answers::default(),
        store: Arc::downgrade(&config.store),
        clock: config.clock.clone(),
    });
    let handle = EngineHandle {
        inbox: inbox_sender.clone(),
        state: state_receiver,
        stats: stats_receiver,
        shared: Arc::clone(&shared),
    };
    let listener = inbox_sender.clone();
    // An engine that has ended needs no news.
    config.store.listen(Box::new(move |event| drop(listener.send(Command::Store(event)))));
    let engine = EngineThread {
        inbox,
        to_self: inbox_sender,
        loader,
        windows: Windows { state: State::Unloaded, state_sender, stats: first_stats, stats_sender },
        serving: None,
        drain: None,
        load: None,
        failed: None,
        rebuilds: Rebuilds::default(),
        ledger: Ledger::new(shared),
        n_tickets: 0,
        is_busy: false,
        is_held: false,
        store_mode: if config.store.is_on() { StoreMode::On } else { StoreMode::Off },
        store_seen: None,
        config,
    };
    let thread = std::thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || engine.run())
        .expect("the system gives a process that starts a thread");
    (handle, thread)
}

/// Why nothing more can be had of what is loaded.
#[derive(Debug, thiserror::Error)]
enum Broken {
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

/// Owns runner, scheduler, sequences and lifecycle.
struct EngineThread {
    config: EngineConfig,
    inbox: Receiver<Command>,
    /// For what loader and store send back.
    to_self: Sender<Command>,
    loader: Arc<dyn ModelLoader>,
    windows: Windows,
    serving: Option<Serving>,
    drain: Option<Drain>,
    /// The ticket of the load under way.
    load: Option<u64>,
    /// What failed while draining, to be dealt with afterwards.
    failed: Option<FailureCause>,
    rebuilds: Rebuilds,
    ledger: Ledger,
    n_tickets: u64,
    /// Whether the last step computed something, so that the next one may.
    is_busy: bool,
    /// Whether a test holds the next step or flush.
    is_held: bool,
    /// Off while the store is in trouble.
    store_mode: StoreMode,
    /// When its numbers were looked at last.
    store_seen: Option<Instant>,
}

impl EngineThread {
    fn run(mut self) {
        self.begin_load().expect("a fresh engine is unloaded, and that allows to load");
        while self.windows.state != State::Stopped {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.turn())) {
                // Unwinding leaves the sequences of a step half done. All of that is in `serving`, which goes.
                if self.serving.is_none() {
                    tracing::error!(
                        "the engine thread panicked outside a step: {}",
                        panic_text(panic.as_ref())
                    );
                    resume_unwind(panic);
                }
                self.worker_failed(Broken::Worker(panic_text(panic.as_ref())));
            }
        }
        self.say_goodbye();
    }

    fn turn(&mut self) {
        self.read_inbox();
        self.meet_deadline();
        if let Err(broken) = self.step() {
            self.worker_failed(broken);
        }
        self.advance_drain();
        self.publish();
    }

    /// Compute something for every sequence that can go on.
    fn step(&mut self) -> Result<(), Broken> {
        self.is_busy = false;
        self.is_held = false;
        let EngineThread { config, serving: Some(serving), ledger, windows, to_self, .. } = self else {
            return Ok(());
        };
        serving.sweep(config.clock.now(), ledger);
        if serving.saving.is_behind() {
            serving.save(store::SaveReason::Tail);
        }
        serving.import(ledger);
        self.is_busy = serving.restoring.has_arrivals();
        if serving.is_empty() {
            return Ok(());
        }
        if serving.is_held() {
            self.is_held = true;
            return Ok(());
        }
        let began = config.clock.now();
        let step = serving.plan(began, ledger);
        if step.rows.is_empty() {
            if serving.wants_hurry() {
                serving.is_hurrying = true;
                let to_self = to_self.clone();
                config.store.flush(Box::new(move |_| drop(to_self.send(Command::Hurried))));
            }
            return Ok(());
        }
        windows.step_begins(began, serving, ledger);
        serving.run(&step)?;
        let now = config.clock.now();
        let sampled = serving.sample(&step, now.saturating_duration_since(began), now, ledger);
        // Before anybody is told: one row may be its request's own fault, a model that computes no numbers is not.
        if sampled.is_all_broken() && !serving.is_sound()? {
            return Err(Broken::Model);
        }
        serving.commit(&step, sampled, now, ledger);
        self.is_busy = true;
        Ok(())
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
        let is_behind = self.serving.as_ref().is_some_and(|s| s.saving.is_behind());
        let n_sequences = self.serving.as_ref().map_or(0, |s| s.n_running() + s.n_waiting());
        let most = match () {
            () if self.is_busy => return Duration::ZERO,
            () if self.is_held || is_behind => POLL,
            () if n_sequences > 0 => WATCH,
            () => HEARTBEAT,
        };
        let drain_deadline = match self.windows.state {
            State::Draining { deadline, .. } if n_sequences > 0 => Some(deadline),
            _ => None,
        };
        let due = [self.serving.as_ref().and_then(Serving::next_deadline), drain_deadline];
        let now = self.config.clock.now();
        due.into_iter().flatten().map(|at| at.saturating_duration_since(now)).fold(most, Duration::min)
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Load { reply } => {
                self.rebuilds.forget();
                // Whoever asked may have gone; so with every reply.
                let _ = reply.send(self.begin_load());
            }
            Command::Progress { ticket, progress } if self.load == Some(ticket) => {
                self.windows.stats.load = progress;
            }
            Command::Loaded { ticket, result } if self.load == Some(ticket) => self.loaded(result),
            Command::Flushed { ticket } => {
                if let Some(drain) = &mut self.drain
                    && drain.flush == Flush::UnderWay(ticket)
                {
                    drain.flush = Flush::Done;
                }
            }
            Command::Submit(submission) => self.submit(submission),
            Command::Drain { then, deadline, reply } => self.begin_drain(then, deadline, reply),
            Command::Resume { reply } => {
                let _ = reply.send(self.resume());
            }
            Command::Restored { seq, piece, blocks } => {
                if let Some(serving) = &mut self.serving {
                    serving.restored(seq, piece, blocks);
                }
            }
            Command::Store(event) => self.hear(&event),
            Command::Hurried => {
                if let Some(serving) = &mut self.serving {
                    serving.is_hurrying = false;
                }
            }
            Command::Agents { ask: AgentAsk::Evict(name), reply } => {
                let to_self = self.to_self.clone();
                self.config.store.flush(Box::new(move |_| {
                    let _ = to_self.send(Command::Agents { ask: AgentAsk::EvictSaved(name), reply });
                }));
            }
            Command::Agents { ask, reply } => {
                let told = agents::obey(&ask, self.config.store.as_ref(), self.serving.as_mut());
                let _ = reply.send(Ok(told));
            }
            // Of a load that nobody waits for any more.
            Command::Progress { .. } | Command::Loaded { .. } => {}
            #[cfg(any(test, feature = "testing"))]
            Command::Wake => {}
        }
    }

    /// The store's threads have news.
    fn hear(&mut self, event: &StoreEvent) {
        match event {
            StoreEvent::Failing(trouble) => {
                tracing::warn!(trouble = trouble.name(), "nothing is saved to disk from now on");
                self.store_mode = StoreMode::Off;
                self.store_seen = None;
            }
            StoreEvent::Recovered => {
                tracing::info!("saving to disk works again");
                self.store_mode = StoreMode::On;
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
        if let Some(serving) = &mut self.serving {
            serving.hear(event);
        }
    }

    fn submit(&mut self, submission: Submission) {
        match (&self.windows.state, &mut self.serving) {
            (State::Ready, Some(serving)) => serving.submit(submission, &mut self.ledger),
            (state, _) => submission.refuse(Refusal::unavailable(state, self.config.clock.now())),
        }
    }

    fn begin_load(&mut self) -> Result<(), IllegalTransition> {
        self.transition(&Transition::Load)?;
        self.spawn_load();
        Ok(())
    }

    /// Load on a thread of its own; the state is the caller's matter.
    fn spawn_load(&mut self) {
        self.n_tickets += 1;
        self.load = Some(self.n_tickets);
        self.windows.stats.load = Default::default();
        let restorable_bytes = self.config.store.stats().live_bytes;
        let (loader, holds) = (Arc::clone(&self.loader), self.config.holds.clone());
        spawn_load(self.n_tickets, loader, restorable_bytes, holds, self.to_self.clone());
        self.publish();
    }

    fn loaded(&mut self, result: Result<Box<Loaded>, String>) {
        self.load = None;
        match result {
            Ok(loaded) => {
                let serving = Serving::new(*loaded, &self.config, self.to_self.clone(), self.store_mode);
                self.ledger.shared.set_card(Some(Arc::clone(&serving.card)));
                serving.recall(&self.ledger.shared.answers);
                self.serving = Some(serving);
                self.failed = None;
                self.windows.stats.started = true;
                self.publish();
                if let Err(error) = self.transition(&Transition::Loaded) {
                    tracing::error!(%error, "a model came in that nobody waited for");
                }
            }
            Err(text) => {
                tracing::error!("the model could not be loaded: {text}");
                self.fail(FailureCause::Load(text));
            }
        }
    }

    /// The pool is void and the runner not to be trusted: end everybody, and build a new one.
    fn worker_failed(&mut self, broken: Broken) {
        let text = broken.to_string();
        let now = self.config.clock.now();
        self.ledger.totals.worker_failures += 1;
        self.is_busy = false;
        let n_lost = self.serving.as_ref().map_or(0, |s| s.n_running() + s.n_waiting());
        tracing::error!(n_lost, "the model's worker failed: {text}");
        let cause = FailureCause::Worker(text);
        let failed = State::Failed { cause: cause.clone() };
        // Whoever is told of the fault finds the engine failed.
        self.fail(cause);
        if let Some(serving) = self.serving.take() {
            let ledger = &mut self.ledger;
            // A runner that broke may break again when it is dropped.
            let dropped = catch_unwind(AssertUnwindSafe(|| {
                serving.abandon(now, ledger, |sequence| match sequence.has_begun() {
                    true => Refusal::Fault { id: sequence.request_id.to_string() },
                    false => Refusal::unavailable(&failed, now),
                });
            }));
            if let Err(panic) = dropped {
                tracing::error!(
                    "the model's worker panicked while it was dropped: {}",
                    panic_text(panic.as_ref())
                );
            }
        }
        self.publish();
        // The same file would give the same model: that is for a person to try.
        let may_rebuild = matches!(broken, Broken::Worker(_)) && self.rebuilds.after_failure(now);
        match (&self.windows.state, may_rebuild) {
            (State::Failed { .. }, true) => {
                if let Err(error) = self.begin_load() {
                    tracing::error!(%error, "a failed worker is not rebuilt");
                }
            }
            (State::Draining { then: After::Park, .. }, true) => self.spawn_load(),
            _ => {}
        }
        self.publish();
    }

    fn fail(&mut self, cause: FailureCause) {
        if let State::Draining { .. } = self.windows.state {
            self.failed = Some(cause.clone());
        }
        if let Err(error) = self.transition(&Transition::Fail(cause)) {
            tracing::error!(%error, "a failure that the state does not allow");
        }
    }

    fn begin_drain(&mut self, then: After, deadline: Instant, reply: Option<Reply<DrainReport>>) {
        let was_draining = self.drain.is_some();
        if let Err(error) = self.transition(&Transition::Drain { then, deadline }) {
            tracing::debug!(%error, "a drain was asked for");
            if let Some(reply) = reply {
                let _ = reply.send(Err(error));
            }
            return;
        }
        let State::Draining { .. } = self.windows.state else {
            if let Some(reply) = reply {
                let _ = reply.send(Ok(DrainReport::default()));
            }
            return;
        };
        let now = self.config.clock.now();
        let drain = self.drain.get_or_insert_with(|| Drain::begin(now, &mut self.ledger));
        drain.tell(reply);
        if !was_draining && let Some(serving) = &mut self.serving {
            let refusal = Refusal::unavailable(&self.windows.state, now);
            let queued = |s: &Sequence| (!s.has_begun()).then(|| refusal.clone());
            drain.n_refused = serving.end_where(queued, now, &mut self.ledger);
        }
        tracing::info!(?then, was_draining, "draining");
        self.publish();
    }

    /// End what a drain leaves no more time. Before the step, which may be long.
    fn meet_deadline(&mut self) {
        let State::Draining { deadline, .. } = self.windows.state else { return };
        let now = self.config.clock.now();
        if let Some(serving) = &mut self.serving
            && now >= deadline
        {
            let interrupted =
                |_: &Sequence| Some(Refusal::Interrupted { why: "the server stopped before its end" });
            serving.end_where(interrupted, now, &mut self.ledger);
        }
    }

    /// Flush the store once nobody runs; then move on.
    fn advance_drain(&mut self) {
        let State::Draining { then, .. } = self.windows.state else { return };
        let Some(drain) = &mut self.drain else { return };
        if let Some(serving) = &mut self.serving {
            serving.save(store::SaveReason::Drain);
            if !serving.is_empty() || serving.saving.is_behind() {
                return;
            }
        }
        match drain.flush {
            Flush::NotBegun if self.config.holds.is_held("flush") => self.is_held = true,
            Flush::NotBegun => {
                self.n_tickets += 1;
                let ticket = self.n_tickets;
                drain.flush = Flush::UnderWay(ticket);
                let to_self = self.to_self.clone();
                self.config.store.flush(Box::new(move |report| {
                    if report.n_failed > 0 {
                        tracing::warn!(report.n_failed, "blocks could not be saved");
                    }
                    // An engine that has ended waits for nothing.
                    let _ = to_self.send(Command::Flushed { ticket });
                }));
            }
            Flush::UnderWay(_) => {}
            Flush::Done => self.end_drain(then),
        }
    }

    fn end_drain(&mut self, then: After) {
        let now = self.config.clock.now();
        let Some(drain) = self.drain.take() else { return };
        if then == After::Swap {
            self.serving = None;
            self.load = None;
            self.ledger.shared.set_card(None);
        }
        let report = drain.report(now, &self.ledger);
        self.windows.stats.last_drain = Some(report);
        self.ledger.drained(&report);
        self.publish();
        if then == After::Exit {
            // Whoever sees `Stopped` may end the process, and what lies on a GPU must be gone by then.
            self.serving = None;
        }
        if let Err(error) = self.transition(&Transition::Drained) {
            tracing::error!(%error, "a drain ended that nobody began");
        }
        drain.answer(report);
        tracing::info!(report.n_drained, report.n_interrupted, report.n_refused, took = ?report.took, "drained");
        match self.windows.state {
            State::Loading => self.spawn_load(),
            State::Parked if self.serving.is_none() && self.load.is_none() => {
                let lost = || FailureCause::Worker("it was lost during the drain".to_owned());
                let cause = self.failed.take().unwrap_or_else(lost);
                self.fail(cause);
            }
            _ => {}
        }
    }

    fn resume(&mut self) -> Result<(), IllegalTransition> {
        let transition = match (&self.serving, self.load) {
            (Some(_), _) => Transition::Resume,
            (None, Some(_)) => Transition::ResumeLoading,
            (None, None) => {
                return Err(IllegalTransition { what: "resume", state: self.windows.state.name() });
            }
        };
        self.transition(&transition)?;
        if let Some(drain) = self.drain.take() {
            drain.cancel(self.config.clock.now(), self.windows.state.name(), &mut self.ledger);
        }
        self.publish();
        Ok(())
    }

    fn transition(&mut self, transition: &Transition) -> Result<(), IllegalTransition> {
        let state = next(&self.windows.state, transition)?;
        if state != self.windows.state {
            tracing::info!(from = self.windows.state.name(), to = state.name(), "engine");
            self.windows.state = state.clone();
            self.windows.state_sender.send_replace(state);
        }
        Ok(())
    }

    /// Show the numbers, and that we are alive; then say what ended.
    fn publish(&mut self) {
        let stats = &mut self.windows.stats;
        stats.heartbeat = self.config.clock.now();
        stats.step_started = None;
        stats.totals = self.ledger.totals.clone();
        // It is not worth a look at every step.
        if self.store_seen.is_none_or(|seen| stats.heartbeat.saturating_duration_since(seen) >= STORE_LOOK) {
            self.store_seen = Some(stats.heartbeat);
            stats.store = StoreCounts::of(self.config.store.as_ref());
        }
        let serving = self.serving.as_ref();
        self.windows.show(serving);
        let stats = &mut self.windows.stats;
        stats.drain = match (&self.drain, &self.windows.state) {
            (Some(drain), State::Draining { deadline, .. }) => Some(DrainProgress {
                n_active: stats.n_running,
                unsaved_bytes: serving.map_or(0, |s| s.saving.waiting_bytes())
                    + self.config.store.stats().queued_bytes,
                since: drain.since,
                deadline: *deadline,
            }),
            _ => None,
        };
        self.windows.stats_sender.send_replace(self.windows.stats.clone());
        self.ledger.tell();
    }

    /// Nobody reads the inbox any more: answer what is in it.
    fn say_goodbye(&mut self) {
        self.publish();
        let now = self.config.clock.now();
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Submit(submission) => submission.refuse(Refusal::unavailable(&State::Stopped, now)),
                Command::Drain { reply: Some(reply), .. } => {
                    let _ = reply.send(Ok(DrainReport::default()));
                }
                // A dropped reply is answered by the handle: the engine is stopped.
                _ => {}
            }
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
