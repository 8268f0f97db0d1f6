//! A step that a runner computes.

use std::sync::Arc;
use std::time::Instant;

use scheduler::Step;

/// A step that a runner computes.
pub(crate) struct UnderWay {
    pub(super) step: Arc<Step>,
    pub(super) began: Instant,
}
