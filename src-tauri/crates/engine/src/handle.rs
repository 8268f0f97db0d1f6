//! What everybody but the engine thread holds: a way to ask it, and windows on what it says.

use std::sync::mpsc::{SendError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use scheduler::{AnswerToken, TokenId};
use store::{BlockStore, Pin};
use text::{Chat, RenderedChat};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::agents::{AgentAsk, AgentInfo};
use crate::answers::{Answers, EncodedPrompt, PromptError};
use crate::clock::Clock;
use crate::command::{Command, Submission};
use crate::event_stream::EventStream;
use crate::histograms::Histograms;
use crate::lifecycle::{After, IllegalTransition, State};
use crate::loader::ModelCard;
use crate::record::{Records, RequestRecord};
use crate::request::{Refusal, Request};
use crate::stats::{DrainReport, Stats, StoreCounts};

/// One request's place in the house. It travels with the request and is free again when that has ended.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Asks things of the engine thread and reads what it publishes. Cheap to clone.
#[derive(Clone)]
pub struct EngineHandle {
    pub(crate) inbox: Sender<Command>,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) stats: watch::Receiver<Stats>,
    pub(crate) shared: Arc<Shared>,
}

/// What the engine thread and the handles share besides the channels.
pub(crate) struct Shared {
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) histograms: Arc<Histograms>,
    /// Guards the list against readers while the engine thread appends; held for a push or a copy only.
    pub(crate) records: Mutex<Records>,
    /// Guards the pointer to the loaded model's card; held for a clone or a store only.
    pub(crate) card: Mutex<Option<Arc<ModelCard>>>,
    pub(crate) answers: Answers,
    /// The engine thread's: where that has ended, the store is closed, and all is on disk.
    pub(crate) store: Weak<dyn BlockStore>,
    pub(crate) clock: Clock,
}

impl Shared {
    pub(crate) fn set_card(&self, card: Option<Arc<ModelCard>>) {
        if let Some(card) = &card {
            self.answers.begin(card.fingerprint);
        }
        *self.card.lock().unwrap_or_else(PoisonError::into_inner) = card;
    }

    /// Remember what the loaded model generated after exactly `before`.
    pub(crate) fn remember_answer(&self, before: &[TokenId], answer: &[AnswerToken]) {
        let card = self.card.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(card) = card {
            self.answers.record(&card.text, before, answer);
        }
    }

    pub(crate) fn push_record(&self, record: RequestRecord) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

impl EngineHandle {
    /// What the engine is doing.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Its state as it changes. The channel closes when the engine thread has ended.
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Its numbers.
    pub fn stats(&self) -> Stats {
        self.stats.borrow().clone()
    }

    /// Its numbers, with the store's as they are at this moment and not as the engine last saw them. Waits for the
    /// store's lock.
    pub fn stats_with_store(&self) -> Stats {
        let mut stats = self.stats();
        if let Some(store) = self.shared.store.upgrade() {
            stats.store = StoreCounts::of(&*store);
        }
        stats
    }

    /// Its numbers as they change: at every step and every heartbeat.
    pub fn watch_stats(&self) -> watch::Receiver<Stats> {
        self.stats.clone()
    }

    /// The loaded model, once there is one; it stays while the engine drains, is parked or rebuilds its worker.
    pub fn card(&self) -> Option<Arc<ModelCard>> {
        self.shared.card.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Render and tokenise a chat for the model of `card`. Where an earlier answer of the model comes back as it was
    /// generated, its own ids are taken, so that their KV can be reused. Takes as long as the chat is long: call it
    /// off the async threads. It stops when the prompt has more tokens than the effective context, and when
    /// `is_abandoned` says that nobody waits for it any more.
    ///
    /// # Errors
    /// The chat cannot be rendered or is too long, or nobody waits for it.
    pub fn encode_chat(
        &self,
        card: &ModelCard,
        chat: &Chat,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        self.shared.answers.encode_chat(card, chat, is_abandoned)
    }

    /// As [`EngineHandle::encode_chat`], for a chat that has been rendered already.
    ///
    /// # Errors
    /// It is too long, or nobody waits for it.
    pub fn encode_rendered(
        &self,
        card: &ModelCard,
        rendered: &RenderedChat,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        self.shared.answers.encode_rendered(card, rendered, is_abandoned)
    }

    /// Tokenise a raw prompt for the model of `card`, with earlier answers' ids and within the limits of
    /// [`EngineHandle::encode_chat`].
    ///
    /// # Errors
    /// It is too long, or nobody waits for it.
    pub fn encode_raw(
        &self,
        card: &ModelCard,
        text: &str,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        self.shared.answers.encode_raw(card, text, is_abandoned)
    }

    /// Its distributions.
    pub fn histograms(&self) -> Arc<Histograms> {
        Arc::clone(&self.shared.histograms)
    }

    /// The last requests that ended, oldest first.
    pub fn records(&self) -> Vec<RequestRecord> {
        self.shared.records.lock().unwrap_or_else(PoisonError::into_inner).to_vec()
    }

    /// The request that ended last.
    pub fn last_record(&self) -> Option<RequestRecord> {
        self.shared.records.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// What became of the request called `id`, as long as it is among the last.
    pub fn record(&self, id: &str) -> Option<RequestRecord> {
        self.shared.records.lock().unwrap_or_else(PoisonError::into_inner).find(id).cloned()
    }

    /// Take a place for a request. The look at the state is a fast path: the engine thread decides.
    ///
    /// # Errors
    /// `Unavailable` when the state admits nothing, `Busy` when no place is free.
    pub fn try_permit(&self) -> Result<Permit, Refusal> {
        let state = self.state.borrow().clone();
        if state != State::Ready {
            return Err(Refusal::unavailable(&state, self.shared.clock.now()));
        }
        match Arc::clone(&self.shared.permits).try_acquire_owned() {
            Ok(permit) => Ok(Permit(permit)),
            Err(_) => Err(Refusal::Busy { n_waiting: self.stats.borrow().n_waiting }),
        }
    }

    /// Hand a request to the engine; `received` is when its handler had read it.
    pub fn submit(&self, permit: Permit, request: Request, received: Instant) -> EventStream {
        let (sender, receiver) = mpsc::unbounded_channel();
        let id = request.id.clone();
        let n_prompt = request.prompt.len();
        let submission = Submission { request: Box::new(request), events: sender, permit, received };
        if let Err(SendError(Command::Submit(submission))) = self.inbox.send(Command::Submit(submission)) {
            submission.refuse(Refusal::unavailable(&State::Stopped, self.shared.clock.now()));
        }
        EventStream::new(id, n_prompt, receiver)
    }

    /// Start loading, or load again after a failure. Returns once loading has begun.
    ///
    /// # Errors
    /// The state does not allow it.
    pub async fn load(&self) -> Result<(), IllegalTransition> {
        self.ask("load", |reply| Command::Load { reply }).await
    }

    /// Begin to drain and don't wait: what a signal does.
    /// While draining, the deadline can only move nearer, and a drain to exit wins.
    pub fn begin_drain(&self, then: After, timeout: Duration) {
        let deadline = self.deadline(timeout);
        // An engine that has ended has nothing left to drain.
        let _ = self.inbox.send(Command::Drain { then, deadline, reply: None });
    }

    /// Drain, and wait for the end: stop admitting, refuse what has not started, let running sequences finish,
    /// end them at the deadline, flush the store.
    ///
    /// # Errors
    /// The state does not allow it, or the drain was cancelled by `resume`.
    pub async fn drain(&self, then: After, timeout: Duration) -> Result<DrainReport, IllegalTransition> {
        let deadline = self.deadline(timeout);
        self.ask("drain", |reply| Command::Drain { then, deadline, reply: Some(reply) }).await
    }

    /// Admit again, while draining or parked.
    ///
    /// # Errors
    /// The state does not allow it.
    pub async fn resume(&self) -> Result<(), IllegalTransition> {
        self.ask("resume", |reply| Command::Resume { reply }).await
    }

    /// The named agents, the last used first; one line for each name, of the loaded model where it has one.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn agents(&self) -> Result<Vec<AgentInfo>, IllegalTransition> {
        self.ask_agents(AgentAsk::List).await
    }

    /// One agent, if there is one of this name.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn agent(&self, name: &str) -> Result<Option<AgentInfo>, IllegalTransition> {
        self.ask_agent(AgentAsk::Show(name.to_owned())).await
    }

    /// Exempt what an agent has on disk from being given up for space; returns it as it is then.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn pin_agent(&self, name: &str) -> Result<Option<AgentInfo>, IllegalTransition> {
        self.ask_agent(AgentAsk::Pin(name.to_owned(), Pin::Pinned)).await
    }

    /// Undo [`EngineHandle::pin_agent`].
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn unpin_agent(&self, name: &str) -> Result<Option<AgentInfo>, IllegalTransition> {
        self.ask_agent(AgentAsk::Pin(name.to_owned(), Pin::Unpinned)).await
    }

    /// Save what an agent has in the pool and take it out of there; returns it as it is then. What a running request
    /// uses or another agent continues stays.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn evict_agent(&self, name: &str) -> Result<Option<AgentInfo>, IllegalTransition> {
        self.ask_agent(AgentAsk::Evict(name.to_owned())).await
    }

    /// Forget an agent, of all models; returns what it was. It is in no list any more when this returns; the bytes
    /// on disk that are its alone are erased right after.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn forget_agent(&self, name: &str) -> Result<Option<AgentInfo>, IllegalTransition> {
        self.ask_agent(AgentAsk::Forget(name.to_owned())).await
    }

    /// Forget all agents; returns what they were.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn forget_all_agents(&self) -> Result<Vec<AgentInfo>, IllegalTransition> {
        self.ask_agents(AgentAsk::ForgetAll).await
    }

    async fn ask_agent(&self, ask: AgentAsk) -> Result<Option<AgentInfo>, IllegalTransition> {
        Ok(self.ask_agents(ask).await?.pop())
    }

    async fn ask_agents(&self, ask: AgentAsk) -> Result<Vec<AgentInfo>, IllegalTransition> {
        self.ask(ask.name(), |reply| Command::Agents { ask, reply }).await
    }

    /// Make the engine thread look at its clock, which the test has moved.
    #[cfg(any(test, feature = "testing"))]
    pub fn wake(&self) {
        let _ = self.inbox.send(Command::Wake);
    }

    /// Send a command that answers; an engine that has ended answers that it is stopped.
    async fn ask<T>(
        &self,
        what: &'static str,
        command: impl FnOnce(oneshot::Sender<Result<T, IllegalTransition>>) -> Command,
    ) -> Result<T, IllegalTransition> {
        let stopped = IllegalTransition { what, state: State::Stopped.name() };
        let (reply, answer) = oneshot::channel();
        if self.inbox.send(command(reply)).is_err() {
            return Err(stopped);
        }
        answer.await.unwrap_or(Err(stopped))
    }

    /// Now and `timeout`; a timeout beyond what the clock can hold is a day.
    fn deadline(&self, timeout: Duration) -> Instant {
        let now = self.shared.clock.now();
        now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400))
    }
}
