//! An engine of its own for one scenario, and streams whose tokens are timed as they arrive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    BatchEngine, CheckedPrompt, EngineConfig, EngineHandle, Event, Markers, ModelLoader, Request, RequestId,
    Sampling, State,
};

use super::timed_runner::{Passes, TimedLoader};

/// A loaded engine and the times of its forward passes.
pub(super) struct Rig {
    engine: BatchEngine,
    pub(super) handle: EngineHandle,
    pub(super) passes: Passes,
}

/// When a stream's tokens arrived.
#[derive(Debug)]
pub(super) struct Arrivals {
    pub(super) submitted: Instant,
    /// One entry an event with tokens: when, and how many.
    pub(super) tokens: Vec<(Instant, usize)>,
}

impl Arrivals {
    pub(super) fn first(&self) -> Instant {
        self.tokens.first().map_or(self.submitted, |(at, _)| *at)
    }

    pub(super) fn last(&self) -> Instant {
        self.tokens.last().map_or(self.submitted, |(at, _)| *at)
    }

    /// Tokens that arrived after `from` and not after `to`.
    pub(super) fn n_between(&self, from: Instant, to: Instant) -> usize {
        self.tokens.iter().filter(|(at, _)| *at > from && *at <= to).map(|(_, n)| n).sum()
    }

    /// The longest time without a token between `from` and `to`.
    pub(super) fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let inside = self.tokens.iter().map(|(at, _)| *at).filter(|at| *at >= from && *at <= to);
        let mut longest = Duration::ZERO;
        let mut since = None;
        for at in inside {
            if let Some(since) = since {
                longest = longest.max(at - since);
            }
            since = Some(at);
        }
        longest
    }
}

impl Rig {
    /// Start an engine and wait until its model is loaded.
    pub(super) async fn open(loader: &Arc<dyn ModelLoader>, config: EngineConfig) -> Result<Rig, String> {
        let passes = Passes::default();
        let timed = TimedLoader { inner: Arc::clone(loader), passes: passes.clone() };
        let engine = BatchEngine::start(config, Arc::new(timed));
        let handle = engine.handle();
        let mut state = handle.watch_state();
        loop {
            match state.borrow_and_update().clone() {
                State::Ready => break,
                State::Failed(failure) => return Err(failure.to_string()),
                _ => {}
            }
            state.changed().await.map_err(|_| "the engine ended while loading".to_owned())?;
        }
        Ok(Rig { engine, handle, passes })
    }

    /// Drain and end the engine.
    pub(super) async fn close(self) -> Result<(), String> {
        self.engine.drain(Duration::from_secs(30)).await.map_err(|error| error.to_string())?;
        self.engine.join();
        Ok(())
    }

    /// A prompt of `n` tokens that shares no prefix with one of another `seed`.
    pub(super) fn prompt(&self, seed: usize, n: usize) -> Result<Vec<u32>, String> {
        let card = self.handle.card().ok_or("no model is loaded")?;
        let n_plain = card.text.n_vocab().saturating_sub(1_000).max(1);
        Ok((0..n).map(|i| ((i * 7_919 + seed * 104_729 + 13) % n_plain + 500) as u32).collect())
    }

    /// Send a request and time its tokens until it ends.
    pub(super) async fn stream(
        &self,
        seed: usize,
        prompt: Vec<u32>,
        n_tokens: usize,
    ) -> Result<Arrivals, String> {
        let card = self.handle.card().ok_or("no model is loaded")?;
        let prompt = CheckedPrompt::new(prompt, card.text.n_vocab()).map_err(|fault| fault.to_string())?;
        let permit = self.handle.try_permit().map_err(|refusal| refusal.to_string())?;
        let sampling =
            Sampling { temperature: 0.8, top_p: 0.95, seed: Some(seed as u64), ..Sampling::default() };
        let request = Request {
            id: RequestId(format!("bench-{seed}").into()),
            model: self.handle.default_model().clone(),
            prompt,
            notes: Default::default(),
            max_tokens: Some(n_tokens),
            sampling,
            constraint: None,
            stop: Vec::new(),
            markers: Markers::Hidden,
            ignore_end_of_turn: true,
            top_logprobs: None,
            agent: None,
        };
        let submitted = Instant::now();
        let mut events = self.handle.submit(permit, request, submitted);
        let mut tokens = Vec::new();
        while let Some(event) = events.recv().await {
            match event {
                Event::Text { tokens: new, .. } if !new.is_empty() => {
                    tokens.push((Instant::now(), new.len()));
                }
                Event::Failed { error, .. } => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(Arrivals { submitted, tokens })
    }
}
