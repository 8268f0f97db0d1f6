//! `GET /admin/history`: the pool and the work of the last minutes, for pictures over time.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::kept::moments::{EVERY, Moment};
use crate::watch::rounding::one_decimal;

/// The last minutes, the oldest moment first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PastMinutes {
    /// Seconds between two moments.
    every_s: u64,
    moments: Vec<PastMoment>,
}

/// How the engine stood at a time.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct PastMoment {
    /// In seconds since 1970.
    at: f64,
    /// Blocks of the pool that were held.
    held: usize,
    /// Blocks that were kept for reuse.
    cached: usize,
    /// All blocks.
    total: usize,
    /// Tokens that had been generated since the start.
    generated_tokens: u64,
}

impl From<Moment> for PastMoment {
    fn from(moment: Moment) -> PastMoment {
        PastMoment {
            at: one_decimal(moment.at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())),
            held: moment.pool.held,
            cached: moment.pool.cached,
            total: moment.pool.total,
            generated_tokens: moment.generated_tokens,
        }
    }
}

/// The pool and the work of the last minutes.
#[utoipa::path(get, path = "/admin/history", tag = "Admin", responses((status = 200, body = PastMinutes)))]
pub(crate) async fn history(State(app): State<Arc<App>>) -> Json<PastMinutes> {
    let moments = app.history.all().into_iter().map(PastMoment::from).collect();
    Json(PastMinutes { every_s: EVERY.as_secs(), moments })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::PoolCounts;

    use super::*;

    #[test]
    fn a_moment_is_told_to_a_tenth_of_a_second() {
        let at = UNIX_EPOCH + Duration::from_millis(2_040);
        let told = PastMoment::from(Moment { at, pool: PoolCounts::default(), generated_tokens: 2 });
        assert_eq!(told, PastMoment { at: 2.0, held: 0, cached: 0, total: 0, generated_tokens: 2 });
    }
}
