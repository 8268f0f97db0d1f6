//! How far the loading of a model is.

/// Bytes of weights made ready so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes in all; 0 = not known yet.
    pub bytes_total: u64,
}

impl LoadProgress {
    /// `0.0..=1.0`.
    pub fn fraction(self) -> f64 {
        if self.bytes_total == 0 { 0.0 } else { self.bytes_done as f64 / self.bytes_total as f64 }
    }
}
