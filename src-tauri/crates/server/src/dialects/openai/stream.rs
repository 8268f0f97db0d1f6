//! A streamed answer: the engine's events as frames.
//!
//! An answer that ends well ends with `[DONE]`. One that does not ends with a frame `{"error": …}` and no
//! `[DONE]`: the official clients raise an error at that frame, and a client that does not know it sees a stream
//! that broke off instead of one that seems complete.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use engine::{Event, EventStream};
use futures_util::FutureExt;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::answer::{Dialect, Envelope, Piece, usage};
use crate::calls::fault::ApiError;
use crate::dialects::sse;
use crate::edge::access_log::AccessEntry;

/// Silence after which a comment shows that the stream is alive; the contract allows 10 s.
const SILENCE: Duration = Duration::from_secs(5);
/// Time between two comments about a prefill that makes progress.
const PROGRESS: Duration = Duration::from_millis(500);
/// Bytes after which frames are written even if more events are there.
const ENOUGH: usize = 64 << 10;

/// A streamed answer under way.
pub(crate) struct Streaming<D> {
    events: EventStream,
    first: Option<Event>,
    transcript: Transcript<D>,
    written_at: Instant,
}

impl<D: Dialect> Streaming<D> {
    /// Stream `first`, if it has been received already, and what follows.
    pub(crate) fn new(
        events: EventStream,
        first: Option<Event>,
        envelope: Envelope,
        dialect: D,
        include_usage: bool,
        entry: Arc<AccessEntry>,
    ) -> Streaming<D> {
        let transcript = Transcript {
            envelope,
            dialect,
            include_usage,
            entry,
            opened: false,
            prefill: None,
            ended: false,
        };
        Streaming { events, first, transcript, written_at: Instant::now() }
    }

    /// The next bytes: for `stream::unfold`.
    pub(crate) async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Streaming<D>)> {
        let mut out = String::new();
        while out.is_empty() {
            if self.transcript.ended {
                return None;
            }
            let event = match self.first.take() {
                Some(event) => Ok(Some(event)),
                None => timeout_at(self.written_at + SILENCE, self.events.recv()).await,
            };
            match event {
                Ok(Some(event)) => self.transcript.take(event, &mut out),
                // The engine promises a terminal event, after which nothing is asked.
                Ok(None) => return None,
                Err(_) => self.transcript.sign_of_life(&mut out),
            }
            // What is there already goes into the same write: a slow client gets fewer of them.
            while out.len() < ENOUGH && !self.transcript.ended {
                match self.events.recv().now_or_never() {
                    Some(Some(event)) => self.transcript.take(event, &mut out),
                    _ => break,
                }
            }
            if out.is_empty() && self.written_at.elapsed() >= PROGRESS {
                self.transcript.progress(&mut out);
            }
        }
        self.written_at = Instant::now();
        Some((Ok(out.into()), self))
    }
}

/// From events to frames; knows no time.
pub(crate) struct Transcript<D> {
    envelope: Envelope,
    dialect: D,
    include_usage: bool,
    entry: Arc<AccessEntry>,
    opened: bool,
    /// Tokens done and in all, while the prompt is being prefilled.
    prefill: Option<(usize, usize)>,
    ended: bool,
}

impl<D: Dialect> Transcript<D> {
    /// Append the frames of one event.
    fn take(&mut self, event: Event, out: &mut String) {
        if !self.opened {
            self.opened = true;
            let opening = self.dialect.opening();
            self.chunk(opening, out);
        }
        match event {
            Event::Admitted { n_prompt, n_reused } => self.prefill = Some((n_reused, n_prompt)),
            Event::Prefilled { done, total } => self.prefill = Some((done, total)),
            Event::Text { text, logprobs, .. } => {
                self.prefill = None;
                let choice = self.dialect.delta(self.envelope.text(), &Piece { text, logprobs });
                self.chunk(choice, out);
            }
            Event::Finished { reason, usage: took } => {
                self.ended = true;
                let last = self.dialect.last(&reason);
                self.chunk(Some(last), out);
                if self.include_usage {
                    let mut chunk = self.envelope.wrap(D::CHUNK, Vec::new());
                    chunk["usage"] = usage(&took);
                    sse::data(out, &chunk);
                }
                out.push_str("data: [DONE]\n\n");
                self.entry.set_usage(took);
            }
            Event::Failed { error, usage } => {
                self.ended = true;
                let error = ApiError::from(error);
                sse::data(out, &error.body());
                self.entry.set_error(error.code.unwrap_or(error.kind));
                self.entry.set_usage(usage);
            }
        }
    }

    fn chunk(&self, choice: Option<Value>, out: &mut String) {
        let Some(choice) = choice else { return };
        let mut chunk = self.envelope.wrap(D::CHUNK, vec![choice]);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        sse::data(out, &chunk);
    }

    /// Append a comment about the prefill, if there is one.
    fn progress(&self, out: &mut String) {
        if let Some((done, total)) = self.prefill {
            sse::comment(out, &format!("prefill {done}/{total}"));
        }
    }

    /// Append a comment in any case.
    fn sign_of_life(&self, out: &mut String) {
        self.progress(out);
        if out.is_empty() {
            sse::comment(out, "alive");
        }
    }
}
