//! Loading on a thread of its own, so that the engine thread stays alive meanwhile.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, sync_channel};

use crate::hold_points::HoldPoints;
use crate::inbox::command::Command;
use crate::inbox::question::Question;
use crate::panic_text::panic_text;
use crate::told::load_progress::LoadProgress;
use crate::told::loader::{LoadDesk, ModelLoader, Needs};
use crate::told::model_name::ModelName;
use crate::told::state::{Failure, FailureKind};

/// Parts of the whole that progress is reported in, so that a loader may report as often as it likes.
const N_PARTS: f64 = 200.0;

/// What a load is begun with.
pub(crate) struct LoadOrder {
    pub(crate) model: ModelName,
    /// Under which everything comes back.
    pub(crate) ticket: u64,
    /// Bytes of KV that the store has.
    pub(crate) restorable_bytes: u64,
    /// False as soon as nobody waits for the model.
    pub(crate) is_wanted: Arc<AtomicBool>,
    pub(crate) holds: HoldPoints,
    pub(crate) inbox: Sender<Command>,
}

/// Run `loader`; what it asks, reports and returns comes to the inbox.
pub(crate) fn spawn_load(loader: Arc<dyn ModelLoader>, order: LoadOrder) {
    let (inbox, model, ticket) = (order.inbox.clone(), order.model.clone(), order.ticket);
    let load = move || {
        order.holds.wait("load");
        let desk = Desk { order, last_part: Cell::new(-1.0) };
        let result = catch_unwind(AssertUnwindSafe(|| loader.load(&desk.order.model, &desk)));
        let result = result.unwrap_or_else(|panic| {
            let text = format!("the loader panicked: {}", panic_text(panic.as_ref()));
            Err(Failure::new(FailureKind::Damaged, text))
        });
        let LoadOrder { model, ticket, inbox, .. } = desk.order;
        // An engine that has ended needs no model: it is dropped here.
        let _ = inbox.send(Command::Loaded { model, ticket, result: result.map(Box::new) });
    };
    if let Err(error) = std::thread::Builder::new().name("model-load".to_owned()).spawn(load) {
        let failure = Failure::new(FailureKind::NoRoom, format!("no thread to load on: {error}"));
        let _ = inbox.send(Command::Loaded { model, ticket, result: Err(failure) });
    }
}

/// The loader's side of the inbox.
struct Desk {
    order: LoadOrder,
    last_part: Cell<f64>,
}

impl Desk {
    fn send(&self, command: Command) {
        // An engine that has ended needs no model, and its process may be about to end.
        if self.order.inbox.send(command).is_err() {
            self.order.is_wanted.store(false, Ordering::Relaxed);
        }
    }
}

impl LoadDesk for Desk {
    fn restorable_bytes(&self) -> u64 {
        self.order.restorable_bytes
    }

    fn pool_bytes(&self, needs: &Needs) -> Result<u64, Failure> {
        let (reply, answer) = sync_channel(1);
        let question = Question { needs: *needs, reply };
        let (model, ticket) = (self.order.model.clone(), self.order.ticket);
        self.send(Command::Needs { model, ticket, question });
        // The engine drops the question of a load that nobody waits for any more.
        let unwanted = || Failure::new(FailureKind::NoRoom, "nobody waits for the model any more");
        answer.recv().unwrap_or_else(|_| Err(unwanted()))
    }

    fn progress(&self, progress: LoadProgress) -> ControlFlow<()> {
        let part = (progress.fraction() * N_PARTS).floor();
        if part > self.last_part.replace(part.max(self.last_part.get())) {
            let (model, ticket) = (self.order.model.clone(), self.order.ticket);
            self.send(Command::Progress { model, ticket, progress });
            if part >= N_PARTS / 2.0 {
                self.order.holds.wait("load_half");
            }
        }
        let is_wanted = self.order.is_wanted.load(Ordering::Relaxed);
        if is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}
