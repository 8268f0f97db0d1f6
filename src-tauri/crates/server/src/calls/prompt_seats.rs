//! Who may parse, render and tokenise now: a few prompts at a time, and short ones are never behind long ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a body from which on its prompt is a long one: below, all of the work takes some milliseconds.
const LONG_BYTES: usize = 64 << 10;

/// Seats for prompts on their way to tokens; the engine needs the other cores.
#[derive(Debug)]
pub(crate) struct PromptSeats {
    all: Arc<Semaphore>,
    /// One fewer, so that there is a seat that no long prompt ever has.
    for_long: Arc<Semaphore>,
}

/// A seat, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct PromptSeat {
    _one: OwnedSemaphorePermit,
    _long: Option<OwnedSemaphorePermit>,
}

impl PromptSeats {
    /// As many as there are cores, and two at least.
    pub(crate) fn new(n_cores: usize) -> PromptSeats {
        let n = n_cores.max(2);
        PromptSeats { all: Arc::new(Semaphore::new(n)), for_long: Arc::new(Semaphore::new(n - 1)) }
    }

    /// Wait for a seat for a prompt in a body of `n_bytes`. Nothing once the seats are closed, which they never are.
    pub(crate) async fn take(&self, n_bytes: usize) -> Option<PromptSeat> {
        // A long one queues for the seats of its kind first: those that wait there are in nobody's way.
        let long = if n_bytes < LONG_BYTES {
            None
        } else {
            Some(Arc::clone(&self.for_long).acquire_owned().await.ok()?)
        };
        Some(PromptSeat { _one: Arc::clone(&self.all).acquire_owned().await.ok()?, _long: long })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn however_many_long_prompts_wait_a_short_one_gets_a_seat_at_once() {
        for n_cores in [1, 2, 3, 8] {
            let seats = PromptSeats::new(n_cores);
            let n_long = n_cores.max(2) - 1;
            let mut taken = Vec::new();
            for _ in 0..n_long {
                taken.push(seats.take(LONG_BYTES).now_or_never().expect("a seat for a long one"));
            }
            let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(seats.take(16 << 20))).collect();
            for wait in &mut waiting {
                assert!(wait.as_mut().now_or_never().is_none(), "{n_cores}: one too many");
            }
            let short = seats.take(LONG_BYTES - 1).now_or_never().expect("a seat for a short one");
            assert!(seats.take(0).now_or_never().is_none(), "{n_cores}: there are no more");
            drop(short);
            assert!(seats.take(0).now_or_never().is_some());
            // A long one that ends makes place for the next that waits.
            taken.pop();
            let next = waiting[0].as_mut().now_or_never();
            assert!(next.is_some(), "{n_cores}: the next has its seat");
            assert!(waiting[1].as_mut().now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn short_prompts_take_all_seats_where_there_are_no_long_ones() {
        let seats = PromptSeats::new(4);
        let taken: Vec<_> = (0..4).map(|_| seats.take(10).now_or_never().expect("a seat")).collect();
        assert!(seats.take(10).now_or_never().is_none());
        drop(taken);
    }

    #[tokio::test]
    async fn a_client_that_gives_up_waiting_leaves_no_seat_behind() {
        let seats = PromptSeats::new(2);
        let long = seats.take(LONG_BYTES).await;
        let mut given_up = Box::pin(seats.take(LONG_BYTES));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        drop(long);
        assert!(seats.take(LONG_BYTES).now_or_never().is_some());
    }
}
