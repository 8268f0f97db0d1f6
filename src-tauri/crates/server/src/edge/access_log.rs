//! One log line a request, written when its response has ended: never a prompt, an answer or a key.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use engine::{RequestId, TraceId};
use hyper::body::{Frame, SizeHint};

use crate::calls::answer::Usage;
use crate::keys::key_check::Caller;

/// What the line will say. The line is written when the last holder lets go: the response's body, in the end.
#[derive(Debug)]
pub(crate) struct AccessEntry {
    id: RequestId,
    /// The trace that it is part of, where the client said.
    trace: Option<TraceId>,
    method: &'static str,
    route: String,
    silent: bool,
    since: Instant,
    status: AtomicU16,
    ended: AtomicBool,
    /// Guards what the handler adds along the way; held for a store only.
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    usage: Option<Usage>,
    error: Option<&'static str>,
    /// The name of the key that was shown, where it has one.
    key: Option<String>,
}

impl AccessEntry {
    /// The entry of a request that has just come in; a silent one writes no line.
    pub(crate) fn new(
        id: RequestId,
        trace: Option<TraceId>,
        method: &Method,
        route: String,
        silent: bool,
    ) -> Arc<AccessEntry> {
        Arc::new(AccessEntry {
            id,
            trace,
            method: method_label(method),
            route,
            silent,
            since: Instant::now(),
            status: AtomicU16::new(0),
            ended: AtomicBool::new(false),
            notes: Mutex::default(),
        })
    }

    /// The method, out of a closed list.
    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    /// The trace that the request is part of.
    pub(crate) fn trace(&self) -> Option<TraceId> {
        self.trace
    }

    /// The route's template, not the path.
    pub(crate) fn route(&self) -> &str {
        &self.route
    }

    /// Who asks.
    pub(crate) fn set_caller(&self, caller: &Caller) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).key = caller.key_name().map(str::to_owned);
    }

    /// What the request took.
    pub(crate) fn set_usage(&self, usage: Usage) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).usage = Some(usage);
    }

    /// That the answer ended in an error of this code, also after its head was sent.
    pub(crate) fn set_error(&self, code: &'static str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).error = Some(code);
    }

    /// That there is a head now, and whether it says an error.
    pub(crate) fn answered(&self, status: StatusCode, error: Option<&'static str>) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
        if let Some(code) = error {
            self.set_error(code);
        }
    }

    /// The same body, and the entry with it until it ends or its client goes away.
    pub(crate) fn follow(self: Arc<AccessEntry>, body: Body) -> FollowedBody {
        if body.is_end_stream() {
            self.ended.store(true, Ordering::Relaxed);
        }
        FollowedBody { body, entry: self }
    }
}

impl Drop for AccessEntry {
    fn drop(&mut self) {
        if self.silent {
            return;
        }
        let notes = std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        let usage = notes.usage.unwrap_or_default();
        let ended = self.ended.load(Ordering::Relaxed);
        tracing::info!(
            method = self.method,
            route = self.route,
            status = self.status.load(Ordering::Relaxed),
            ms = self.since.elapsed().as_millis() as u64,
            request_id = %self.id,
            key = notes.key,
            trace_id = self.trace.map(tracing::field::display),
            error = notes.error.or((!ended).then_some("client_gone")),
            n_prompt = usage.n_prompt,
            n_reused = usage.n_reused,
            n_generated = usage.n_generated,
            "request"
        );
    }
}

/// The id and the entry of a request, which the edge gives to every one.
pub(crate) fn of_head(head: &Parts) -> (RequestId, Arc<AccessEntry>) {
    let id = head.extensions.get::<RequestId>().cloned().unwrap_or_else(|| RequestId("unnamed".into()));
    let entry = head.extensions.get::<Arc<AccessEntry>>().cloned();
    let entry =
        entry.unwrap_or_else(|| AccessEntry::new(id.clone(), None, &head.method, String::new(), true));
    (id, entry)
}

/// A response's body that holds the request's log entry.
#[derive(Debug)]
pub(crate) struct FollowedBody {
    body: Body,
    entry: Arc<AccessEntry>,
}

impl HttpBody for FollowedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.entry.ended.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client can invent methods; a label cannot.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
