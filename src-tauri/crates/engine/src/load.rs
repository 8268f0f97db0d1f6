//! Loading on a thread of its own, so that the engine thread stays alive meanwhile.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::command::Command;
use crate::engine_thread::panic_text;
use crate::hold_points::HoldPoints;
use crate::loader::{LoadProgress, ModelLoader};

/// Parts of the whole that progress is reported in, so that a loader may report as often as it likes.
const N_PARTS: f64 = 200.0;

/// Run `loader`, which is told how many bytes of KV the store has; what it reports and returns comes to the inbox
/// under `ticket`.
pub(crate) fn spawn_load(
    ticket: u64,
    loader: Arc<dyn ModelLoader>,
    restorable_bytes: u64,
    holds: HoldPoints,
    inbox: Sender<Command>,
) {
    let to_inbox = inbox.clone();
    let load = move || {
        holds.wait("load");
        let last_part = Cell::new(-1.0);
        let is_wanted = Cell::new(true);
        let progress = |progress: LoadProgress| {
            let part = (progress.fraction() * N_PARTS).floor();
            if part > last_part.replace(part.max(last_part.get())) {
                // An engine that has ended needs no model, and its process may be about to end: stop.
                is_wanted.set(to_inbox.send(Command::Progress { ticket, progress }).is_ok());
                if part >= N_PARTS / 2.0 {
                    holds.wait("load_half");
                }
            }
            if is_wanted.get() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let result = catch_unwind(AssertUnwindSafe(|| loader.load(restorable_bytes, &progress)))
            .unwrap_or_else(|panic| Err(format!("the loader panicked: {}", panic_text(panic.as_ref()))));
        // As above: the model is dropped here.
        let _ = to_inbox.send(Command::Loaded { ticket, result: result.map(Box::new) });
    };
    if let Err(error) = std::thread::Builder::new().name("model-load".to_owned()).spawn(load) {
        let _ = inbox.send(Command::Loaded { ticket, result: Err(format!("no thread to load on: {error}")) });
    }
}
