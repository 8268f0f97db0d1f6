//! A load without an engine: for tools that want a runner to themselves.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::budget::{MemoryBudget, Verdict};
use crate::told::load_progress::LoadProgress;
use crate::told::loader::{LoadDesk, MemoryLimit, Needs};
use crate::told::model_name::ModelName;
use crate::told::state::{Failure, FailureKind};

/// Gives one model what there is.
pub struct LoadAlone {
    /// Guards the budget, which no other thread asks; a desk is asked through a shared reference.
    budget: Mutex<MemoryBudget>,
}

impl LoadAlone {
    /// With so much memory.
    pub fn new(limit: MemoryLimit) -> LoadAlone {
        LoadAlone { budget: Mutex::new(MemoryBudget::new(limit)) }
    }
}

impl LoadDesk for LoadAlone {
    fn restorable_bytes(&self) -> u64 {
        0
    }

    fn pool_bytes(&self, needs: &Needs) -> Result<u64, Failure> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        match budget.judge(&ModelName::from("alone"), needs, &[]) {
            Verdict::Granted { pool_bytes } => Ok(pool_bytes),
            Verdict::AfterLeaving(_) | Verdict::Refused { .. } => {
                Err(Failure::new(FailureKind::NoRoom, "there is no room beside another model"))
            }
        }
    }

    fn progress(&self, _progress: LoadProgress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
