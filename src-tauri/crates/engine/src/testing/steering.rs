//! A test's hands on the scripted runner and loader.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scheduler::Step;

/// A test that waits longer for something has found a hang.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a held step does when it is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Run.
    Run,
    /// Run, and give the row of this index logits that are not finite.
    NotFinite(usize),
    /// Fail as a device does.
    Error,
    /// Fail as an allocation does.
    OutOfMemory,
    /// Panic.
    Panic,
}

/// Holds and releases steps and loads. Cheap to clone; test, runner and loader share it.
#[derive(Clone, Default)]
pub struct Steering(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Guards everything; a held thread waits on `changed` and so without the lock.
    board: Mutex<Board>,
    changed: Condvar,
}

#[derive(Default)]
struct Board {
    holds_steps: bool,
    held_step: Option<Step>,
    orders: VecDeque<Outcome>,
    steps: Vec<Step>,
    holds_loads: bool,
    is_load_held: bool,
    load_orders: VecDeque<Result<(), String>>,
    n_loads: usize,
    n_stopped_loads: usize,
    at_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl Steering {
    /// Nothing is held.
    pub fn free() -> Steering {
        Steering::default()
    }

    /// Every step is held.
    pub fn holding_steps() -> Steering {
        let steering = Steering::default();
        steering.hold_steps();
        steering
    }

    /// From now on, every step waits for [`Steering::release`].
    pub fn hold_steps(&self) {
        self.board().holds_steps = true;
    }

    /// From now on no step waits; one that does goes on.
    pub fn free_steps(&self) {
        self.board().holds_steps = false;
        self.0.changed.notify_all();
    }

    /// Wait until a step is held and return it.
    pub fn held_step(&self) -> Step {
        self.wait_for("a held step", |board| board.held_step.clone())
    }

    /// Let the held step, or the next one, go on.
    pub fn release(&self, outcome: Outcome) {
        self.board().orders.push_back(outcome);
        self.0.changed.notify_all();
    }

    /// Wait for a step, let it run, and return it.
    pub fn let_run(&self) -> Step {
        let step = self.held_step();
        self.release(Outcome::Run);
        self.wait_for("the step's end", |board| {
            (board.orders.is_empty() && board.held_step.as_ref() != Some(&step)).then_some(())
        });
        step
    }

    /// Every step that the runner was asked for.
    pub fn steps(&self) -> Vec<Step> {
        self.board().steps.clone()
    }

    /// From now on, every load waits for [`Steering::release_load`].
    pub fn hold_loads(&self) {
        self.board().holds_loads = true;
    }

    /// Wait until a load is held.
    pub fn held_load(&self) {
        self.wait_for("a held load", |board| board.is_load_held.then_some(()));
    }

    /// Wait until a load has been broken off.
    pub fn broken_off_load(&self) {
        self.wait_for("a load that is broken off", |board| (board.n_stopped_loads > 0).then_some(()));
    }

    /// Let the held load, or the next one, end so.
    pub fn release_load(&self, result: Result<(), String>) {
        self.board().load_orders.push_back(result);
        self.0.changed.notify_all();
    }

    /// How many loads were begun.
    pub fn n_loads(&self) -> usize {
        self.board().n_loads
    }

    /// Do this when the runner is dropped, the next time one is.
    pub fn when_dropped(&self, act: impl FnOnce() + Send + 'static) {
        self.board().at_drop = Some(Box::new(act));
    }

    /// For the runner, which goes.
    pub(super) fn dropped(&self) {
        let act = self.board().at_drop.take();
        if let Some(act) = act {
            act();
        }
    }

    /// For the runner: announce a step and wait for what to do with it.
    pub(super) fn at_step(&self, step: &Step) -> Outcome {
        let mut board = self.board();
        board.steps.push(step.clone());
        board.held_step = Some(step.clone());
        self.0.changed.notify_all();
        loop {
            let outcome = match board.orders.pop_front() {
                None if board.holds_steps => None,
                order => Some(order.unwrap_or(Outcome::Run)),
            };
            if let Some(outcome) = outcome {
                board.held_step = None;
                self.0.changed.notify_all();
                return outcome;
            }
            board = self.0.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the loader: announce a load and wait for how it ends.
    pub(super) fn at_load(&self) -> Result<(), String> {
        let mut board = self.board();
        board.n_loads += 1;
        board.is_load_held = true;
        self.0.changed.notify_all();
        loop {
            let result = match board.load_orders.pop_front() {
                None if board.holds_loads => None,
                order => Some(order.unwrap_or(Ok(()))),
            };
            if let Some(result) = result {
                board.is_load_held = false;
                return result;
            }
            board = self.0.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the loader, which was told to break off.
    pub(super) fn stopped_load(&self) {
        self.board().n_stopped_loads += 1;
        self.0.changed.notify_all();
    }

    fn wait_for<T>(&self, what: &str, mut ready: impl FnMut(&mut Board) -> Option<T>) -> T {
        let mut board = self.board();
        loop {
            if let Some(value) = ready(&mut board) {
                return value;
            }
            let (next, timeout) =
                self.0.changed.wait_timeout(board, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            assert!(!timeout.timed_out(), "waited in vain for {what}");
            board = next;
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
