//! A directory as opening found it.

use crate::disk::Lock;
use crate::segment::Seal;
use crate::state::StoreState;

/// What opening found.
pub(crate) struct Opened {
    pub(crate) state: StoreState,
    pub(crate) lock: Box<dyn Lock>,
    pub(crate) next_segment: u64,
    /// Segments that a crash left open, where their last whole record ends, and whether they can be sealed.
    pub(crate) to_cut: Vec<(u64, u64, Seal)>,
    /// What the meter's file says: the day, in days since 1970, and the bytes.
    pub(crate) meter: (u64, u64),
}
