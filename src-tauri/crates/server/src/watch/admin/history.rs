//! `GET /admin/history`: the pool and the work of the last minutes, for pictures over time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use engine::{EngineHandle, PoolCounts};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::router::App;

/// Time between two moments.
const EVERY: Duration = Duration::from_secs(2);
/// How many are kept: five minutes.
const N_MOMENTS: usize = 150;

/// What the pool held and what had been generated, moment by moment. It is the server's, so that a window that opens
/// shows what was before it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Guards the list against readers; held for a push or a walk only.
    moments: Mutex<VecDeque<Moment>>,
}

#[derive(Debug, Clone, Copy)]
struct Moment {
    at: SystemTime,
    pool: PoolCounts,
    generated_tokens: u64,
}

impl History {
    /// Write down how the engine stands, now and every two seconds; ends when dropped.
    pub(crate) async fn keep(&self, engine: &EngineHandle) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let stats = engine.stats();
            self.push(Moment {
                at: SystemTime::now(),
                pool: stats.pool,
                generated_tokens: stats.totals.generated_tokens,
            });
        }
    }

    fn push(&self, moment: Moment) {
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        if moments.len() == N_MOMENTS {
            moments.pop_front();
        }
        moments.push_back(moment);
    }

    fn describe(&self) -> Vec<Value> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).iter().map(describe).collect()
    }
}

/// The oldest first.
pub(super) async fn history(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"every_s": EVERY.as_secs(), "moments": app.history.describe()}))
}

fn describe(moment: &Moment) -> Value {
    let at = moment.at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    json!({
        "at": (at * 10.0).round() / 10.0,
        "held": moment.pool.held,
        "cached": moment.pool.cached,
        "total": moment.pool.total,
        "generated_tokens": moment.generated_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_moment_goes_when_the_list_is_full() {
        let history = History::default();
        for n in 0..N_MOMENTS as u64 + 2 {
            let at = UNIX_EPOCH + Duration::from_secs(n);
            history.push(Moment { at, pool: PoolCounts::default(), generated_tokens: n });
        }
        let moments = history.describe();
        assert_eq!(moments.len(), N_MOMENTS);
        assert_eq!((&moments[0]["generated_tokens"], &moments[0]["at"]), (&json!(2), &json!(2.0)));
    }
}
