//! How many responses there were, by method, route and status.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;

/// Counters with bounded labels: methods from a closed list, route templates instead of paths.
#[derive(Debug, Default)]
pub(crate) struct HttpCounts {
    /// Guards the counters; held for an increment or a copy only.
    counts: Mutex<BTreeMap<Key, u64>>,
}

/// Method, route template and status.
type Key = (&'static str, String, u16);

impl HttpCounts {
    /// Count one response.
    pub(crate) fn count(&self, method: &'static str, route: &str, status: StatusCode) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((method, route.to_owned(), status.as_u16())).or_default() += 1;
    }

    /// All counters, in a stable order.
    pub(crate) fn all(&self) -> Vec<(Key, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }
}
