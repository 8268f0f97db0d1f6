//! How often keys may still be used.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is left to each key. A key that has rested for a minute may be used as often as its minute allows, at once.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// Guards what is left, by the digests of keys; held for an entry only.
    left: Mutex<HashMap<blake3::Hash, Left>>,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    requests: f64,
    at: Instant,
}

impl Rates {
    /// Count one request of a key that may make so many a minute.
    ///
    /// # Errors
    /// When there will be one more to count.
    pub(super) fn take(&self, key: blake3::Hash, a_minute: NonZeroU32, now: Instant) -> Result<(), Duration> {
        let most = f64::from(a_minute.get());
        let a_second = most / 60.0;
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = left.entry(key).or_insert(Left { requests: most, at: now });
        let rested = now.saturating_duration_since(entry.at).as_secs_f64();
        // A limit that was lowered meanwhile counts at once.
        let requests = (entry.requests + rested * a_second).min(most);
        *entry = Left { requests, at: now };
        if requests < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - requests) / a_second));
        }
        entry.requests -= 1.0;
        Ok(())
    }

    /// Forget keys that are none any more.
    pub(super) fn keep(&self, is_key: impl Fn(&blake3::Hash) -> bool) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| is_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_requests_may_come_at_once_and_then_one_by_one() {
        let (rates, key, start) = (Rates::default(), blake3::hash(b"a"), Instant::now());
        let at = |ms: u64| rates.take(key, NonZeroU32::new(30).unwrap(), start + Duration::from_millis(ms));
        assert!((0..30).all(|_| at(0).is_ok()));
        assert_eq!(at(0), Err(Duration::from_secs(2)));
        assert_eq!(at(500), Err(Duration::from_millis(1_500)));
        assert!(at(2_000).is_ok() && at(2_000).is_err());
        // However long it rests, it has one minute's.
        assert!((0..30).all(|_| at(10_000_000).is_ok()) && at(10_000_000).is_err());
    }

    #[test]
    fn keys_do_not_use_up_each_others_requests_and_lost_ones_are_forgotten() {
        let (rates, start) = (Rates::default(), Instant::now());
        let once = NonZeroU32::MIN;
        let [a, b] = [blake3::hash(b"a"), blake3::hash(b"b")];
        assert!(rates.take(a, once, start).is_ok() && rates.take(b, once, start).is_ok());
        assert!(rates.take(a, once, start).is_err());
        rates.keep(|key| *key == b);
        assert!(rates.take(a, once, start).is_ok() && rates.take(b, once, start).is_err());
    }
}
