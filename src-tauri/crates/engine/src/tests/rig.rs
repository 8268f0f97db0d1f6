//! A running engine for a test, and the questions that tests ask it.

use std::sync::Arc;
use std::time::Duration;

use scheduler::TokenId;

use crate::testing::{ScriptedLoader, ScriptedModel, Steering, tiny_text};
use crate::{
    BatchEngine, CheckedPrompt, Clock, EngineConfig, EngineHandle, Event, EventStream, FinishReason, Markers,
    PromptNotes, Refusal, Request, RequestId, Sampling, State, Usage,
};

/// An hour: longer than anything a test lets pass without moving the clock.
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// An engine with its steering and its clock.
pub(super) struct Rig {
    pub(super) engine: BatchEngine,
    pub(super) handle: EngineHandle,
    pub(super) steering: Steering,
    pub(super) clock: Clock,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) text: String,
    pub(super) tokens: Vec<TokenId>,
    pub(super) end: Result<FinishReason, Refusal>,
    pub(super) usage: Usage,
}

impl Rig {
    /// An engine that is ready, with default bounds and time-outs that no test runs into by itself.
    pub(super) async fn new(model: ScriptedModel) -> Rig {
        Rig::with(model, Steering::free(), EngineConfig::default()).await
    }

    /// An engine that is ready.
    pub(super) async fn with(model: ScriptedModel, steering: Steering, config: EngineConfig) -> Rig {
        let rig = Rig::start(model, steering, config);
        rig.reach("ready").await;
        rig
    }

    /// An engine that has just been started.
    pub(super) fn start(model: ScriptedModel, steering: Steering, config: EngineConfig) -> Rig {
        let loader = ScriptedLoader::new(model, steering.clone());
        Rig::of(loader, steering, config)
    }

    /// An engine that has just been started with this loader; `steering` is the default model's.
    pub(super) fn of(loader: ScriptedLoader, steering: Steering, config: EngineConfig) -> Rig {
        let clock = config.clock.clone();
        let engine = BatchEngine::start(EngineConfig { queue_timeout: HOUR, ..config }, Arc::new(loader));
        Rig { handle: engine.handle(), engine, steering, clock }
    }

    /// Wait for a state.
    pub(super) async fn reach(&self, name: &str) -> State {
        self.handle.watch_state().wait_for(|state| state.name() == name).await.unwrap().clone()
    }

    /// Wait until the published numbers are so.
    pub(super) async fn see(&self, so: impl FnMut(&crate::Stats) -> bool) {
        self.handle.watch_stats().wait_for(so).await.unwrap();
    }

    /// Submit a request.
    pub(super) fn ask(&self, request: Request) -> EventStream {
        let permit = self.handle.try_permit_for(&request.model).expect("there is a place");
        self.handle.submit(permit, request, self.clock.now())
    }

    /// Submit a request and wait for its end.
    pub(super) async fn answer(&self, request: Request) -> Outcome {
        outcome(self.ask(request)).await
    }

    /// Move the clock and let the engine notice.
    pub(super) fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.handle.wake();
    }

    /// Drain, and wait for the thread.
    pub(super) async fn close(self) {
        self.engine.drain(HOUR).await.unwrap();
        self.engine.join();
    }
}

/// A greedy request for `max_tokens` after these tokens.
pub(super) fn greedy(prompt: Vec<TokenId>, max_tokens: usize) -> Request {
    Request {
        id: RequestId(format!("r-{}", prompt.len()).into()),
        model: EngineConfig::default().default_model,
        prompt: CheckedPrompt::new(prompt, tiny_text().n_vocab()).unwrap(),
        notes: PromptNotes::default(),
        max_tokens: Some(max_tokens),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        constraint: None,
        stop: Vec::new(),
        markers: Markers::Hidden,
        ignore_end_of_turn: false,
        top_logprobs: None,
        agent: None,
    }
}

/// A prompt of `n` letters that starts like no other of another `salt`.
pub(super) fn prompt(salt: u32, n: usize) -> Vec<TokenId> {
    (0..n as u32).map(|i| 97 + (salt.wrapping_mul(7919) + i * i * 31 + i * salt) % 26).collect()
}

/// Follow a stream to its end. It must end exactly once.
pub(super) async fn outcome(mut stream: EventStream) -> Outcome {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        let event = stream.recv().await.expect("a stream ends with a terminal event");
        let (end, usage) = match event {
            Event::Text { text: more, tokens: new, .. } => {
                text += &more;
                tokens.extend(new);
                continue;
            }
            Event::Admitted { .. } | Event::Prefilled { .. } => continue,
            Event::Finished { reason, usage } => (Ok(reason), usage),
            Event::Failed { error, usage } => (Err(error), usage),
        };
        assert_eq!(stream.recv().await, None);
        return Outcome { text, tokens, end, usage };
    }
}
