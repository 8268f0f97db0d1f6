//! How much memory the bodies of all requests may take together, and who gives way when they want more.
//!
//! A body pays for bytes that have come, not for those that it announces. When there is no room for what has come, a
//! body whose client has stopped sending gives way at once; and where all wait for each other, the last one to come
//! does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use crate::calls::fault::Fault;
use crate::config::HttpLimits;

/// A body that brings less than [`STRIDE`] in this time has stopped, as far as others are concerned that wait for room.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that count as going on.
const STRIDE: usize = 64 << 10;

/// The budget of a server.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    most_bytes: usize,
    /// Guards what is booked; held for an entry or a search for who gives way, never across an await.
    bodies: Mutex<Bodies>,
    /// Told whenever there is more room.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Bodies {
    n_taken: usize,
    next_id: u64,
    /// Bodies that are not whole yet, in the order in which they came.
    incoming: BTreeMap<u64, Incoming>,
}

#[derive(Debug)]
struct Incoming {
    n_bytes: usize,
    /// When the last stride was complete, and what has come since.
    stride_began: Instant,
    n_of_stride: usize,
    /// Whether it waits for room; otherwise it waits for its client.
    wants_room: bool,
    send_away: oneshot::Sender<Fault>,
}

/// One body's part of the budget, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<BodyBudget>,
    id: u64,
    n_bytes: usize,
    is_whole: bool,
    sent_away: oneshot::Receiver<Fault>,
}

impl BodyBudget {
    pub(crate) fn new(limits: &HttpLimits) -> Arc<BodyBudget> {
        // At least one body must fit, or it would wait for ever.
        let most_bytes = limits.all_bodies_bytes.max(limits.body_bytes);
        Arc::new(BodyBudget { most_bytes, bodies: Mutex::default(), freed: Notify::new() })
    }

    /// The share of a body of which nothing has come yet.
    pub(crate) fn open(self: &Arc<BodyBudget>) -> Share {
        let (send_away, sent_away) = oneshot::channel();
        let mut bodies = self.lock();
        let id = bodies.next_id;
        bodies.next_id += 1;
        let stride_began = Instant::now();
        let incoming = Incoming { n_bytes: 0, stride_began, n_of_stride: 0, wants_room: false, send_away };
        bodies.incoming.insert(id, incoming);
        Share { budget: Arc::clone(self), id, n_bytes: 0, is_whole: false, sent_away }
    }

    /// Whether nothing is booked.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let bodies = self.lock();
        bodies.n_taken == 0 && bodies.incoming.is_empty()
    }

    /// Bytes that are booked.
    #[cfg(test)]
    pub(crate) fn n_taken(&self) -> usize {
        self.lock().n_taken
    }

    fn lock(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Book `n` bytes more, if there is room for them; otherwise somebody who has stopped gives way, if that helps.
    fn try_take(&self, id: u64, n: usize) -> bool {
        let mut bodies = self.lock();
        if let Some(incoming) = bodies.incoming.get_mut(&id) {
            incoming.wants_room = true;
        }
        while bodies.n_taken + n > self.most_bytes {
            if !bodies.send_a_stopped_one_away(Instant::now()) {
                return false;
            }
        }
        // One that has been sent away takes nothing more, and is told next.
        let Some(incoming) = bodies.incoming.get_mut(&id) else { return false };
        incoming.take(n, Instant::now());
        bodies.n_taken += n;
        true
    }
}

impl Bodies {
    /// Of those that have stopped, the one with most bytes; whether there was one.
    fn send_a_stopped_one_away(&mut self, now: Instant) -> bool {
        let has_stopped = |incoming: &Incoming| {
            incoming.n_bytes > 0 && !incoming.wants_room && now - incoming.stride_began >= PATIENCE
        };
        let stopped = self.incoming.iter().filter(|(_, incoming)| has_stopped(incoming));
        let most = stopped.max_by_key(|(_, incoming)| incoming.n_bytes).map(|(id, _)| *id);
        most.is_some_and(|id| self.send_away(id, Fault::body_too_slow()))
    }

    /// Where those that wait for room have taken all of it, the last one that came; whether there was one.
    fn send_the_last_one_away(&mut self) -> bool {
        let waiting = || self.incoming.iter().filter(|(_, incoming)| incoming.wants_room);
        let n_waiting_for_each_other: usize = waiting().map(|(_, incoming)| incoming.n_bytes).sum();
        // What others have will be free when their requests are parsed, or when they have stopped.
        if n_waiting_for_each_other < self.n_taken {
            return false;
        }
        let last = waiting().next_back().map(|(id, _)| *id);
        last.is_some_and(|id| self.send_away(id, Fault::no_room_for_body()))
    }

    fn send_away(&mut self, id: u64, why: Fault) -> bool {
        let Some(incoming) = self.incoming.remove(&id) else { return false };
        self.n_taken -= incoming.n_bytes;
        // Its reader has gone by itself at this moment, or hears of it.
        let _ = incoming.send_away.send(why);
        true
    }
}

impl Incoming {
    fn take(&mut self, n: usize, now: Instant) {
        self.wants_room = false;
        self.n_bytes += n;
        self.n_of_stride += n;
        if self.n_of_stride >= STRIDE {
            (self.stride_began, self.n_of_stride) = (now, 0);
        }
    }
}

impl Share {
    /// Pay for `n` bytes that have come, as soon as there is room for them.
    ///
    /// # Errors
    /// The body has to give way.
    pub(crate) async fn grow(&mut self, n: usize) -> Result<(), Fault> {
        loop {
            let budget = Arc::clone(&self.budget);
            let mut freed = std::pin::pin!(budget.freed.notified());
            freed.as_mut().enable();
            if budget.try_take(self.id, n) {
                self.n_bytes += n;
                return Ok(());
            }
            tokio::select! {
                biased;
                why = self.told() => return Err(why),
                () = freed => {}
                () = sleep(PATIENCE) => {
                    let has_room = self.budget.lock().send_the_last_one_away();
                    if has_room {
                        self.budget.freed.notify_waiters();
                    }
                }
            }
        }
    }

    /// Give back what `n` bytes were paid for that are no longer there.
    pub(crate) fn shrink(&mut self, n: usize) {
        let mut bodies = self.budget.lock();
        // One that was sent away has paid back already.
        if let Some(incoming) = bodies.incoming.get_mut(&self.id) {
            incoming.n_bytes -= n;
            bodies.n_taken -= n;
        }
        self.n_bytes -= n;
        drop(bodies);
        self.budget.freed.notify_waiters();
    }

    /// Wait until the body has to give way, and why.
    pub(crate) async fn told(&mut self) -> Fault {
        match (&mut self.sent_away).await {
            Ok(why) => why,
            Err(_) => std::future::pending().await,
        }
    }

    /// The body is whole: nobody sends it away any more.
    ///
    /// # Errors
    /// Somebody just has.
    pub(crate) fn close(&mut self) -> Result<(), Fault> {
        self.is_whole = self.budget.lock().incoming.remove(&self.id).is_some();
        if self.is_whole {
            return Ok(());
        }
        Err(self.sent_away.try_recv().unwrap_or_else(|_| Fault::no_room_for_body()))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut bodies = self.budget.lock();
        // One that was sent away has paid back already.
        if bodies.incoming.remove(&self.id).is_some() || self.is_whole {
            bodies.n_taken -= self.n_bytes;
        }
        drop(bodies);
        self.budget.freed.notify_waiters();
    }
}
