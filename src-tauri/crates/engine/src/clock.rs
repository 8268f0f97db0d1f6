//! The engine's time: the system's, or one that a test moves forward.

use std::time::Instant;

#[cfg(any(test, feature = "testing"))]
use std::{
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Tells the time to the engine's thread and handles.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Nanoseconds by which a test has moved the time forward.
    #[cfg(any(test, feature = "testing"))]
    ahead: Arc<AtomicU64>,
}

impl Clock {
    /// The monotonic clock of the system.
    pub fn system() -> Clock {
        Clock::default()
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        #[cfg(any(test, feature = "testing"))]
        return Instant::now() + Duration::from_nanos(self.ahead.load(Ordering::SeqCst));
        #[cfg(not(any(test, feature = "testing")))]
        Instant::now()
    }

    /// Move the time forward for everybody who holds this clock. Follow it with a command to the engine:
    /// its thread looks at the clock when it wakes.
    #[cfg(any(test, feature = "testing"))]
    pub fn advance(&self, by: Duration) {
        self.ahead.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }
}
