//! Whether a worker that died is rebuilt by itself.

use std::time::{Duration, Instant};

/// This many failures …
const MOST: usize = 3;

/// … within this time, and rebuilding is left to a person.
const WITHIN: Duration = Duration::from_secs(60);

/// The failures of late.
#[derive(Debug, Default)]
pub(crate) struct Rebuilds {
    failures: Vec<Instant>,
}

impl Rebuilds {
    /// A worker died at `now`; whether it is worth another try.
    pub(crate) fn after_failure(&mut self, now: Instant) -> bool {
        self.failures.retain(|&at| now.saturating_duration_since(at) < WITHIN);
        self.failures.push(now);
        self.failures.len() < MOST
    }

    /// A person asked for another try.
    pub(crate) fn forget(&mut self) {
        self.failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_within_a_minute_are_too_many_and_rare_ones_never_are() {
        let t0 = Instant::now();
        let at = |secs| t0 + Duration::from_secs(secs);
        let mut rebuilds = Rebuilds::default();
        assert!(rebuilds.after_failure(at(0)));
        assert!(rebuilds.after_failure(at(20)));
        assert!(!rebuilds.after_failure(at(59)));
        rebuilds.forget();
        for i in 0..10 {
            assert!(rebuilds.after_failure(at(100 + 31 * i)));
        }
    }
}
