//! What everybody but the engine thread holds: a way to ask it, and windows on what it says.

use std::sync::Arc;
use std::sync::mpsc::{SendError, Sender};
use std::time::{Duration, Instant};

use store::{BlockStore, OfModels, Pin};
use text::{Chat, RenderedChat};
use tokio::sync::{mpsc, oneshot, watch};

use super::agents;
use super::event_stream::EventStream;
use super::pending_vectors::PendingVectors;
use crate::inbox::agent_ask::{AgentAct, AgentAsk};
use crate::inbox::command::{Command, EmbedSubmission, Submission};
use crate::keeping::answers::Answers;
use crate::lifecycle::{ModelTransition, ServerTransition, state_of};
use crate::permit::Permit;
use crate::shared::Shared;
use crate::told::agent_info::AgentInfo;
use crate::told::card::ModelCard;
use crate::told::embedding::EmbedRequest;
use crate::told::histograms::Histograms;
use crate::told::model_name::ModelName;
use crate::told::prompt::{ChatFacts, EncodedPrompt, PromptError};
use crate::told::record::RequestRecord;
use crate::told::request::{Refusal, Request};
use crate::told::state::{After, IllegalTransition, ModelState, ServerState, State};
use crate::told::stats::{DrainReport, Stats, StoreCounts};

/// Asks things of the engine thread and reads what it publishes. Cheap to clone.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) inbox: Sender<Command>,
    pub(super) state: watch::Receiver<State>,
    pub(super) stats: watch::Receiver<Stats>,
    pub(super) shared: Arc<Shared>,
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

    /// The name of the model that a request without one gets.
    pub fn default_model(&self) -> &ModelName {
        &self.shared.default_model
    }

    /// The default model, once it is here; it stays while the engine drains, is parked or rebuilds its worker.
    pub fn card(&self) -> Option<Arc<ModelCard>> {
        self.card_of(&self.shared.default_model)
    }

    /// As [`EngineHandle::card`], of any model.
    pub fn card_of(&self, model: &ModelName) -> Option<Arc<ModelCard>> {
        Some(self.shared.of(model)?.card)
    }

    /// The models that are here, the default one first.
    pub fn models(&self) -> Vec<(ModelName, Arc<ModelCard>)> {
        self.shared.all().into_iter().map(|(name, of)| (name, of.card)).collect()
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
        self.answers_of(card).encode_chat(card, chat, is_abandoned)
    }

    /// As [`EngineHandle::encode_chat`], for a chat that has been rendered already and of which these
    /// `facts` are known.
    ///
    /// # Errors
    /// It is too long, or nobody waits for it.
    pub fn encode_rendered(
        &self,
        card: &ModelCard,
        rendered: &RenderedChat,
        facts: ChatFacts,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        self.answers_of(card).encode_rendered(card, rendered, facts, is_abandoned)
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
        self.answers_of(card).encode_raw(card, text, is_abandoned)
    }

    /// What is remembered of a model's answers; of one that has left, nothing.
    fn answers_of(&self, card: &ModelCard) -> Arc<Answers> {
        let is_it = |answers: &Arc<Answers>| *answers.fingerprint() == card.fingerprint;
        let known = self.shared.all().into_iter().map(|(_, of)| of.answers).find(is_it);
        known.unwrap_or_else(|| Arc::new(Answers::new(card.fingerprint, Arc::clone(&card.text))))
    }

    /// Its distributions.
    pub fn histograms(&self) -> Arc<Histograms> {
        Arc::clone(&self.shared.histograms)
    }

    /// The last requests that ended, oldest first.
    pub fn records(&self) -> Vec<RequestRecord> {
        self.shared.records().to_vec()
    }

    /// The request that ended last.
    pub fn last_record(&self) -> Option<RequestRecord> {
        self.shared.records().last().cloned()
    }

    /// What became of the request called `id`, as long as it is among the last.
    pub fn record(&self, id: &str) -> Option<RequestRecord> {
        self.shared.records().find(id).cloned()
    }

    /// Take a place for a request to the default model. The look at the state is a fast path: the engine thread
    /// decides.
    ///
    /// # Errors
    /// `Unavailable` when the state admits nothing, `Busy` when no place is free.
    pub fn try_permit(&self) -> Result<Permit, Refusal> {
        self.permit_in(&self.state.borrow().clone())
    }

    /// As [`EngineHandle::try_permit`], for any model.
    ///
    /// # Errors
    /// As there.
    pub fn try_permit_for(&self, model: &ModelName) -> Result<Permit, Refusal> {
        self.permit_in(&self.state_for(model))
    }

    /// What the users of a model see; of one that nobody has named, that it is not here.
    pub fn state_for(&self, model: &ModelName) -> State {
        let shown = self.state.borrow().clone();
        let server = match shown {
            _ if *model == self.shared.default_model => return shown,
            State::Draining { then, deadline } => ServerState::Draining { then, deadline },
            State::Parked => ServerState::Parked,
            State::Stopped => ServerState::Stopped,
            State::Unloaded | State::Loading | State::Ready | State::Failed(_) => ServerState::Open,
        };
        let stats = self.stats.borrow();
        let of_model = stats.models.iter().find(|stats| stats.name == *model);
        state_of(&server, of_model.map_or(&ModelState::Absent, |stats| &stats.state))
    }

    fn permit_in(&self, state: &State) -> Result<Permit, Refusal> {
        if *state != State::Ready {
            return Err(Refusal::unavailable(state, self.shared.clock.now()));
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
        let n_prompt = request.prompt.tokens().len();
        let submission = Submission { request: Box::new(request), events: sender, permit, received };
        if let Err(SendError(Command::Submit(submission))) = self.inbox.send(Command::Submit(submission)) {
            submission.refuse(Refusal::unavailable(&State::Stopped, self.shared.clock.now()));
        }
        EventStream::new(id, n_prompt, receiver)
    }

    /// Have an encoder read texts; `received` is when the request's handler had read it. It takes its places among the
    /// requests in flight itself.
    ///
    /// # Errors
    /// `WrongPurpose` when the model is no encoder, `Unavailable` when its state admits nothing, `Busy` when no place or
    /// no memory is free.
    pub fn embed(&self, request: EmbedRequest, received: Instant) -> Result<PendingVectors, Refusal> {
        let permit = self.try_permit_for(&request.model)?;
        let card = self.card_of(&request.model);
        let width = card.as_ref().and_then(|card| card.embedding()).map_or(0, |spec| spec.width);
        let Some(room) = self.shared.embed_rooms.try_take(request.bytes(width)) else {
            return Err(Refusal::Busy { n_waiting: self.stats.borrow().n_waiting });
        };
        let (sender, reply) = oneshot::channel();
        let pending = PendingVectors::new(request.id.clone(), reply);
        let submission = EmbedSubmission { request, reply: sender, permit, room, received };
        if let Err(SendError(Command::Embed(submission))) = self.inbox.send(Command::Embed(submission)) {
            submission.refuse(Refusal::unavailable(&State::Stopped, self.shared.clock.now()));
        }
        Ok(pending)
    }

    /// Start loading the default model, or load it again after a failure. Returns once loading has begun.
    ///
    /// # Errors
    /// The state does not allow it.
    pub async fn load(&self) -> Result<(), IllegalTransition> {
        self.ask(ModelTransition::Load.name(), |reply| Command::Load { model: None, reply }).await
    }

    /// As [`EngineHandle::load`], any model beside those that are here.
    ///
    /// # Errors
    /// As there.
    pub async fn load_model(&self, model: ModelName) -> Result<(), IllegalTransition> {
        self.ask(ModelTransition::Load.name(), |reply| Command::Load { model: Some(model), reply }).await
    }

    /// Have a model finish what runs and go, and wait until its KV is on disk and its memory given back. Sequences
    /// that run longer than `timeout` are ended.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn leave_model(
        &self,
        model: ModelName,
        timeout: Duration,
    ) -> Result<DrainReport, IllegalTransition> {
        let deadline = self.deadline(timeout);
        let what = ModelTransition::Leave { deadline }.name();
        self.ask(what, |reply| Command::Leave { model, deadline, reply: Some(reply) }).await
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
        let what = ServerTransition::Drain { then, deadline }.name();
        self.ask(what, |reply| Command::Drain { then, deadline, reply: Some(reply) }).await
    }

    /// Admit again, while draining or parked.
    ///
    /// # Errors
    /// The state does not allow it.
    pub async fn resume(&self) -> Result<(), IllegalTransition> {
        self.ask(ServerTransition::Resume.name(), |reply| Command::Resume { reply }).await
    }

    /// The named agents, the last used first; one line for each name, of a model that is here where it has one. The
    /// engine thread is not asked.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn agents(&self) -> Result<Vec<AgentInfo>, IllegalTransition> {
        self.look("look at agents", |shared, store| agents::list(shared, store)).await
    }

    /// One agent, if there is one of this name. The engine thread is not asked.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn agent(&self, name: &str) -> Result<Option<AgentInfo>, IllegalTransition> {
        let name = name.to_owned();
        self.look("look at agents", move |shared, store| agents::show(shared, store, &name)).await
    }

    /// Keep what an agent has: on disk it is exempt from being given up for space, and what of it is in a pool stays
    /// there, up to half of the pool. Returns it as it is then.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn pin_agent(&self, name: &str, of: OfModels) -> Result<Option<AgentInfo>, IllegalTransition> {
        self.ask_about(name, of, AgentAct::Pin(Pin::Pinned)).await?;
        self.agent(name).await
    }

    /// Undo [`EngineHandle::pin_agent`].
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn unpin_agent(
        &self,
        name: &str,
        of: OfModels,
    ) -> Result<Option<AgentInfo>, IllegalTransition> {
        self.ask_about(name, of, AgentAct::Pin(Pin::Unpinned)).await?;
        self.agent(name).await
    }

    /// Save what an agent has in the pool and take it out of there, pinned or not; returns it as it is then. What a
    /// running request uses or another agent continues stays.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn evict_agent(
        &self,
        name: &str,
        of: OfModels,
    ) -> Result<Option<AgentInfo>, IllegalTransition> {
        self.ask_about(name, of, AgentAct::Evict).await?;
        self.agent(name).await
    }

    /// Forget an agent; returns whether there was one. It is in no list any more when this returns; the bytes on disk
    /// that are its alone are erased right after.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn forget_agent(&self, name: &str, of: OfModels) -> Result<bool, IllegalTransition> {
        self.ask_about(name, of, AgentAct::Forget).await
    }

    async fn ask_about(&self, name: &str, of: OfModels, what: AgentAct) -> Result<bool, IllegalTransition> {
        let ask = AgentAsk { name: name.to_owned(), of, what };
        self.ask(what.name(), |reply| Command::Agents { ask, reply }).await
    }

    /// Look at what the engine thread, the store and the handles share, off the async threads: with many agents it
    /// takes a while.
    async fn look<T: Send + 'static>(
        &self,
        what: &'static str,
        look: impl FnOnce(&Shared, &dyn BlockStore) -> T + Send + 'static,
    ) -> Result<T, IllegalTransition> {
        let stopped = IllegalTransition { what, state: State::Stopped.name() };
        let shared = Arc::clone(&self.shared);
        let looked = tokio::task::spawn_blocking(move || {
            let store = shared.store.upgrade()?;
            Some(look(&shared, store.as_ref()))
        });
        looked.await.ok().flatten().ok_or(stopped)
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
