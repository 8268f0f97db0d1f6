//! A load without an engine: for tools that want a runner to themselves.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::budget::{MemoryBudget, Verdict, no_room};
use crate::told::load_progress::LoadProgress;
use crate::told::loader::{LoadDesk, MemoryLimit, Needs};
use crate::told::model_name::ModelName;
use crate::told::state::Failure;

/// Gives one model what there is.
pub struct LoadAlone {
    model: ModelName,
    /// Guards the budget, which no other thread asks; a desk is asked through a shared reference.
    budget: Mutex<MemoryBudget>,
}

impl LoadAlone {
    /// A desk for the load of `model`, with so much memory.
    pub fn new(model: ModelName, limit: MemoryLimit) -> LoadAlone {
        LoadAlone { model, budget: Mutex::new(MemoryBudget::new(limit)) }
    }
}

impl LoadDesk for LoadAlone {
    fn restorable_bytes(&self) -> u64 {
        0
    }

    fn pool_bytes(&self, needs: &Needs) -> Result<u64, Failure> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        match budget.judge(&self.model, needs, &[]) {
            Verdict::Granted { pool_bytes } => Ok(pool_bytes),
            Verdict::AfterLeaving(_) => unreachable!("nobody is there who could leave"),
            Verdict::Refused { needed, available } => Err(no_room(&self.model, needed, available)),
        }
    }

    fn progress(&self, _progress: LoadProgress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
