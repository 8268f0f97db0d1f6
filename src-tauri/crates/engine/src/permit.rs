//! The bounds on requests in flight: how many there are, and how much memory those take that bring much.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One request's place among those in flight. It travels with the request and is free again when that has ended.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] pub(crate) OwnedSemaphorePermit);

/// Memory that is handed out in shares.
#[derive(Debug)]
pub(crate) struct Rooms {
    free_kib: Arc<Semaphore>,
    total_kib: u32,
}

/// A share of memory, given back when it is dropped.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Rooms {
    /// So much in all.
    pub(crate) fn of_mib(n_mib: u16) -> Rooms {
        let total_kib = u32::from(n_mib) << 10;
        Rooms { free_kib: Arc::new(Semaphore::new(total_kib as usize)), total_kib }
    }

    /// A share of `n_bytes`, if so much is free; one that is larger than all there is gets that when nobody else has
    /// any.
    pub(crate) fn try_take(&self, n_bytes: usize) -> Option<Room> {
        let n_kib = u32::try_from(n_bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX).min(self.total_kib);
        Arc::clone(&self.free_kib).try_acquire_many_owned(n_kib).ok().map(Room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_is_free_and_the_largest_is_all() {
        let rooms = Rooms::of_mib(2);
        let one = rooms.try_take(1 << 20).unwrap();
        assert!(rooms.try_take((1 << 20) + 1).is_none());
        let other = rooms.try_take(1 << 20).unwrap();
        assert!(rooms.try_take(1).is_none());
        drop((one, other));
        let all = rooms.try_take(usize::MAX).unwrap();
        assert!(rooms.try_take(1).is_none());
        drop(all);
        assert!(rooms.try_take(1).is_some());
    }
}
