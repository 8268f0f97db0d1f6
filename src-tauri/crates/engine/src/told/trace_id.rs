//! The trace that a request is part of.

use std::fmt;
use std::num::NonZeroU128;

/// The trace id of a request whose client follows it through several systems, as W3C's Trace Context has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub NonZeroU128);

impl fmt::Display for TraceId {
    /// 32 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
