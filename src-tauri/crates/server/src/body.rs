//! Bodies from clients: bounded in bytes, in time and all together.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::HttpLimits;
use crate::errors::ApiError;
use crate::fields::Fields;

/// How much memory the bodies of all requests may take together, in units of [`UNIT`].
#[derive(Debug)]
pub(crate) struct BodyBudget(Arc<Semaphore>);

/// Bytes of one unit of the budget.
const UNIT: usize = 1024;

impl BodyBudget {
    pub(crate) fn new(limits: &HttpLimits) -> BodyBudget {
        // At least one body must fit, or it would wait for ever.
        let bytes = limits.all_bodies_bytes.max(limits.body_bytes);
        BodyBudget(Arc::new(Semaphore::new(bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS))))
    }
}

/// A whole body, and its share of the budget.
#[derive(Debug)]
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

/// Read a body to its end.
///
/// # Errors
/// 413 beyond the limit, 408 when it takes too long, 400 when it breaks off.
pub(crate) async fn read(
    body: Body,
    limits: &HttpLimits,
    budget: &BodyBudget,
) -> Result<WholeBody, ApiError> {
    let announced = body.size_hint();
    if announced.lower() > limits.body_bytes as u64 {
        discard(body, limits).await;
        return Err(ApiError::body_too_large(limits.body_bytes));
    }
    // A body of unknown length may turn out to be as long as any.
    let most =
        announced.upper().map_or(limits.body_bytes, |upper| upper.min(limits.body_bytes as u64) as usize);
    let units = u32::try_from(most.div_ceil(UNIT)).unwrap_or(u32::MAX);

    let reading = async {
        let share =
            Arc::clone(&budget.0).acquire_many_owned(units).await.map_err(|_| ApiError::body_timeout())?;
        let mut stream = body.into_data_stream();
        let mut whole = Vec::with_capacity(announced.exact().map_or(0, |exact| exact as usize));
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| ApiError::bad_request("the body broke off"))?;
            if whole.len() + chunk.len() > limits.body_bytes {
                discard(Body::from_stream(stream), limits).await;
                return Err(ApiError::body_too_large(limits.body_bytes));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(WholeBody { bytes: whole.into(), _share: share })
    };
    timeout(limits.body_timeout, reading).await.unwrap_or_else(|_| Err(ApiError::body_timeout()))
}

/// That a body has nothing in it that would be ignored.
///
/// # Errors
/// As [`read`], or 400 that names what is in it.
pub(crate) async fn must_be_empty(
    body: Body,
    limits: &HttpLimits,
    budget: &BodyBudget,
) -> Result<(), ApiError> {
    let body = read(body, limits, budget).await?;
    if body.bytes.is_empty() { Ok(()) } else { Fields::of_body(&body.bytes)?.finish() }
}

/// Read a body that nobody wants and forget it, within bounds: a client that is still sending does not read,
/// and closing the connection under it would cost it the answer that says why.
pub(crate) async fn discard(body: Body, limits: &HttpLimits) {
    let most = limits.body_bytes.saturating_mul(4);
    if body.size_hint().lower() > most as u64 {
        return;
    }
    let reading = async {
        let mut stream = body.into_data_stream();
        let mut n_read = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            n_read += chunk.len();
            if n_read > most {
                break;
            }
        }
    };
    // What has not come by then will not be waited for; the answer goes out either way.
    let _ = timeout(limits.body_timeout.min(std::time::Duration::from_secs(10)), reading).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::stream;

    use super::*;

    const LIMITS: HttpLimits = HttpLimits {
        body_bytes: 10,
        all_bodies_bytes: 10,
        body_timeout: Duration::from_secs(60),
        headers: 1,
        header_bytes: 1,
        target_bytes: 1,
        header_timeout: Duration::from_secs(1),
        connections: 1,
    };

    fn chunks(chunks: &[&'static str]) -> Body {
        let chunks: Vec<Result<_, Infallible>> = chunks.iter().map(|chunk| Ok(*chunk)).collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read_and_a_longer_one_is_413() {
        let budget = BodyBudget::new(&LIMITS);
        for (body, want) in [
            (Body::from("0123456789"), Ok("0123456789")),
            (Body::from("0123456789x"), Err(413)),
            (chunks(&["01234", "56789"]), Ok("0123456789")),
            (chunks(&["01234", "56789", "x"]), Err(413)),
            (Body::empty(), Ok("")),
        ] {
            let got = read(body, &LIMITS, &budget).await;
            let got = got.map(|whole| whole.bytes).map_err(|error| error.status.as_u16());
            assert_eq!(got, want.map(Bytes::from));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_408() {
        let budget = BodyBudget::new(&LIMITS);
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert_eq!(read(never, &LIMITS, &budget).await.unwrap_err().status, 408);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_beyond_the_common_budget_wait_for_their_share() {
        let limits = HttpLimits { body_bytes: 4096, all_bodies_bytes: 4096, ..LIMITS };
        let budget = BodyBudget::new(&limits);
        let first = read(chunks(&["first"]), &limits, &budget).await.unwrap();
        assert_eq!(read(chunks(&["second"]), &limits, &budget).await.unwrap_err().status, 408);
        drop(first);
        assert_eq!(read(chunks(&["third"]), &limits, &budget).await.unwrap().bytes, "third");
    }
}
