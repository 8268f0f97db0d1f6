//! A streamed answer: what happens to it as frames, and signs of life while nothing does.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use engine::RequestId;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};

use crate::calls::answer::{Head, PromptTokens};
use crate::calls::answering::Answering;
use crate::calls::run::{CacheUse, Happening};
use crate::dialects::dialect::Writer;
use crate::edge::access_log::AccessEntry;

/// Silence after which a frame shows that the stream is alive; clients are promised one every 10 s.
const SILENCE: Duration = Duration::from_secs(5);
/// Time between two frames about a prefill that makes progress.
const PROGRESS: Duration = Duration::from_millis(500);
/// Bytes after which frames are written even if more has happened.
const ENOUGH: usize = 64 << 10;

/// A streamed answer under way.
pub(crate) struct Streaming {
    answering: Answering,
    first: Option<(usize, Happening)>,
    transcript: Transcript,
    written_at: Instant,
}

impl Streaming {
    /// Stream `first`, if it has happened already, and what follows.
    pub(crate) fn new(
        answering: Answering,
        first: Option<(usize, Happening)>,
        writer: Box<dyn Writer>,
        id: RequestId,
        entry: Arc<AccessEntry>,
    ) -> Streaming {
        let head = answering.head.clone();
        let transcript =
            Transcript { head, writer, id, entry, has_opened: false, prefill: None, has_ended: false };
        Streaming { answering, first, transcript, written_at: Instant::now() }
    }

    /// The next bytes: for `stream::unfold`.
    pub(crate) async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Streaming)> {
        let mut out = String::new();
        while out.is_empty() {
            if self.transcript.has_ended {
                return None;
            }
            let happening = match self.first.take() {
                Some(first) => Ok(Some(first)),
                None => timeout_at(self.written_at + SILENCE, self.answering.next()).await,
            };
            match happening {
                Ok(Some(happening)) => self.transcript.take(happening, &mut out),
                // The engine promises an end, after which nothing is asked.
                Ok(None) => return None,
                Err(_) => self.transcript.sign_of_life(&mut out),
            }
            // What is there already goes into the same write: a slow client gets fewer of them.
            while out.len() < ENOUGH && !self.transcript.has_ended {
                match self.answering.next().now_or_never() {
                    Some(Some(happening)) => self.transcript.take(happening, &mut out),
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

/// From what happens to frames; knows no time.
struct Transcript {
    head: Head,
    writer: Box<dyn Writer>,
    id: RequestId,
    entry: Arc<AccessEntry>,
    has_opened: bool,
    /// Tokens done and in all, while the prompt is being read.
    prefill: Option<(usize, usize)>,
    has_ended: bool,
}

impl Transcript {
    /// Append the frames of one happening.
    fn take(&mut self, (choice, happening): (usize, Happening), out: &mut String) {
        if !self.has_opened {
            self.has_opened = true;
            let prompt = match happening {
                Happening::Admitted(cache_use) => cache_use.prompt,
                // Nothing was taken: what follows says why.
                _ => PromptTokens::default(),
            };
            self.writer.open(&self.head, prompt, out);
        }
        match happening {
            Happening::Admitted(CacheUse { prompt: PromptTokens { n_prompt, n_reused, .. }, .. }) => {
                self.prefill = Some((n_reused, n_prompt));
            }
            Happening::Prefilled { done, total } => self.prefill = Some((done, total)),
            Happening::Parts(parts) => {
                self.prefill = None;
                self.writer.turn_to(choice);
                for part in &parts {
                    self.writer.part(&self.head, part, out);
                }
            }
            Happening::OneEnded(end) => {
                self.writer.turn_to(choice);
                self.writer.end_one(&self.head, &end, out);
            }
            Happening::Ended(end) => {
                self.has_ended = true;
                self.writer.turn_to(choice);
                self.writer.end(&self.head, &end, out);
                self.entry.set_usage(end.usage);
            }
            Happening::Failed { fault, usage } => {
                self.has_ended = true;
                self.writer.break_off(&self.head, &fault, out);
                fault.log(&self.id);
                self.entry.set_error(fault.kind.name());
                self.entry.set_usage(usage);
            }
        }
    }

    /// Append a frame about the prefill, if there is one.
    fn progress(&mut self, out: &mut String) {
        if let Some((done, total)) = self.prefill {
            self.writer.prefill(&self.head, done, total, out);
        }
    }

    /// Append a frame in any case.
    fn sign_of_life(&mut self, out: &mut String) {
        self.progress(out);
        if out.is_empty() {
            self.writer.alive(&self.head, out);
        }
    }
}
