//! `GET /admin/events`: the engine's state and numbers as they change, for windows and trays.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use engine::{EngineHandle, State as EngineState, Stats};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::view::EngineView;
use crate::app::App;
use crate::dialects::sse::{self, EVENT_STREAM, json};
use crate::edge::frames::streamed;

/// Shortest time between two events.
const PAUSE: Duration = Duration::from_millis(100);
/// Silence after which a comment shows that the stream is alive.
const SILENCE: Duration = Duration::from_secs(10);

/// An event `status` at once and after every change, at most ten a second; the last one says `stopped`.
#[utoipa::path(
    get,
    path = "/admin/events",
    tag = "Admin",
    responses((
        status = 200,
        description = "Server-sent events `status`, each with all of it",
        body = EngineView,
        content_type = "text/event-stream"
    ))
)]
pub(crate) async fn events(State(app): State<Arc<App>>) -> Response {
    let watching = Watching {
        state: app.engine.watch_state(),
        stats: app.engine.watch_stats(),
        engine: app.engine.clone(),
        last: String::new(),
        written_at: None,
        ended: false,
    };
    streamed(EVENT_STREAM, stream::unfold(watching, Watching::next))
}

/// One client's view of the engine.
struct Watching {
    engine: EngineHandle,
    state: watch::Receiver<EngineState>,
    stats: watch::Receiver<Stats>,
    /// What the client knows.
    last: String,
    written_at: Option<Instant>,
    ended: bool,
}

impl Watching {
    /// The next event or comment: for `stream::unfold`.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Watching)> {
        if self.ended {
            return None;
        }
        let mut out = String::new();
        while out.is_empty() {
            if let Some(written_at) = self.written_at {
                match timeout_at(written_at + SILENCE, self.changed(written_at)).await {
                    Ok(()) => {}
                    Err(_) => sse::comment(&mut out, "alive"),
                }
            }
            // Asked before the state is read: what a closed channel holds is the last state.
            let is_closed = self.state.has_changed().is_err();
            let state = self.state.borrow_and_update().clone();
            let stats = self.stats.borrow_and_update().clone();
            let now = json(&EngineView::new(&self.engine, &state, &stats, std::time::Instant::now()));
            if now != self.last {
                out.clear();
                sse::named(&mut out, "status", &now);
                self.last = now;
            }
            self.ended = is_closed || state == EngineState::Stopped;
            if self.ended {
                break;
            }
        }
        self.written_at = Some(Instant::now());
        Some((Ok(out.into()), self))
    }

    /// Wait for a change of the state, or for one of the numbers that is not too soon after the last event.
    async fn changed(&mut self, written_at: Instant) {
        let numbers = async {
            sleep_until(written_at + PAUSE).await;
            let _ = self.stats.changed().await;
        };
        tokio::select! {
            _ = self.state.changed() => {}
            () = numbers => {}
        }
    }
}
