//! What a model at work has at one moment, for those who look on.

use crate::told::stats::{ActiveRequest, PoolCounts};

/// The numbers of a model at work, and how far its requests are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Glance {
    /// Its blocks by state; none of an encoder.
    pub(crate) pool: PoolCounts,
    pub(crate) n_running: usize,
    pub(crate) n_waiting: usize,
    /// The first [`crate::told::stats::N_ACTIVE`] of its requests.
    pub(crate) active: Vec<ActiveRequest>,
}
