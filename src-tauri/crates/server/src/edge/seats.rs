//! Who may stay connected, and how many may be answered at a time.
//!
//! A connection without a request in flight gives way to a new one, the one that has been idle longest first, so that
//! silent clients shut nobody out. A request in flight has a seat and is never cut. There are fewer seats than
//! connections: when all are taken, health is answered still, and everything else is told to come again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

/// Connections beyond the seats.
const STANDING: usize = 32;

/// All places of a server.
#[derive(Debug)]
pub(crate) struct Seats {
    most_connections: usize,
    most_seated: usize,
    /// Guards the table; held for a look-up or a search for who gives way, never across an await.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    connections: BTreeMap<u64, Connection>,
    n_seated: usize,
}

#[derive(Debug)]
struct Connection {
    is_seated: bool,
    /// Since when nothing is in flight. Bytes of a head that is not whole do not count.
    idle_since: Instant,
    /// Dropped when the connection is to give way.
    _keep: oneshot::Sender<()>,
}

/// One connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    seats: Arc<Seats>,
    id: u64,
}

impl Seats {
    /// Seats for as many requests as `connections`, of which no more may be than half the files that the process may
    /// open: the rest are the store's and the model's.
    pub(crate) fn new(connections: usize, most_files: Option<usize>) -> Arc<Seats> {
        let files = most_files.map_or(usize::MAX, |files| (files / 2).max(2));
        let most_connections = connections.saturating_add(STANDING).min(files);
        let most_seated = connections.min(most_connections - STANDING.min(most_connections / 2));
        Arc::new(Seats { most_connections, most_seated, table: Mutex::default() })
    }

    /// A place for a new connection, and a future that ends when the place is taken away again.
    pub(crate) fn admit(self: &Arc<Seats>) -> (Place, impl Future<Output = ()> + use<>) {
        let (keep, kept) = oneshot::channel();
        let mut table = self.lock();
        while table.connections.len() >= self.most_connections {
            if !table.give_way() {
                break;
            }
        }
        let id = table.next_id;
        table.next_id += 1;
        table
            .connections
            .insert(id, Connection { is_seated: false, idle_since: Instant::now(), _keep: keep });
        let place = Place { seats: Arc::clone(self), id };
        (place, async {
            let _ = kept.await;
        })
    }

    /// Close the connection that has been idle longest; whether there was one.
    pub(crate) fn give_way(&self) -> bool {
        self.lock().give_way()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn give_way(&mut self) -> bool {
        let standing = self.connections.iter().filter(|(_, connection)| !connection.is_seated);
        let longest = standing.min_by_key(|(_, connection)| connection.idle_since).map(|(id, _)| *id);
        longest.and_then(|id| self.connections.remove(&id)).is_some()
    }
}

impl Place {
    /// Take a seat for a request; false when all are taken.
    pub(crate) fn sit_down(&self) -> bool {
        let mut table = self.seats.lock();
        let is_free = table.n_seated < self.seats.most_seated;
        // One that has just given way is ending.
        let Some(connection) = table.connections.get_mut(&self.id) else { return false };
        if connection.is_seated {
            return true;
        }
        connection.is_seated = is_free;
        table.n_seated += usize::from(is_free);
        is_free
    }

    /// Begin to be idle, as of now.
    pub(crate) fn stand_up(&self) {
        let mut table = self.seats.lock();
        let Some(connection) = table.connections.get_mut(&self.id) else { return };
        connection.idle_since = Instant::now();
        let was_seated = std::mem::take(&mut connection.is_seated);
        table.n_seated -= usize::from(was_seated);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.seats.lock();
        if table.connections.remove(&self.id).is_some_and(|connection| connection.is_seated) {
            table.n_seated -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};

    use futures_util::FutureExt;

    use super::*;

    type Ended = Pin<Box<dyn Future<Output = ()>>>;

    fn admit(seats: &Arc<Seats>) -> (Place, Ended) {
        let (place, ended) = seats.admit();
        (place, Box::pin(ended))
    }

    fn has_ended(ended: &mut Ended) -> bool {
        pin!(ended).as_mut().now_or_never().is_some()
    }

    #[test]
    fn the_connection_that_has_been_idle_longest_gives_way_and_none_that_is_being_answered() {
        let seats = Seats::new(4, None);
        let mut all: Vec<_> = (0..4 + STANDING).map(|_| admit(&seats)).collect();
        assert!(all.iter_mut().all(|(_, ended)| !has_ended(ended)), "there is room for all of these");
        assert!(all[0].0.sit_down() && all[2].0.sit_down());
        // Answered just now, and so the one that has been idle for the shortest time.
        all[1].0.stand_up();
        let more: Vec<_> = (0..3).map(|_| admit(&seats)).collect();
        let gone: Vec<usize> = (0..all.len()).filter(|i| has_ended(&mut all[*i].1)).collect();
        assert_eq!(gone, [3, 4, 5]);
        drop(more);
    }

    #[test]
    fn seats_are_counted_and_come_back_however_a_request_ends() {
        let seats = Seats::new(2, None);
        let (a, _) = admit(&seats);
        let (b, _) = admit(&seats);
        let (c, _) = admit(&seats);
        assert!(a.sit_down() && a.sit_down() && b.sit_down() && !c.sit_down());
        a.stand_up();
        assert!(c.sit_down() && !a.sit_down());
        drop(b);
        assert!(a.sit_down());
        a.stand_up();
        c.stand_up();
        c.stand_up();
        assert_eq!(seats.lock().n_seated, 0);
    }

    #[test]
    fn when_every_seat_is_taken_new_connections_still_come_in() {
        let seats = Seats::new(3, None);
        let seated: Vec<_> = (0..3).map(|_| admit(&seats)).collect();
        assert!(seated.iter().all(|(place, _)| place.sit_down()));
        let mut last = admit(&seats);
        for _ in 0..1_000 {
            last = admit(&seats);
        }
        assert!(!has_ended(&mut last.1) && !last.0.sit_down());
        assert!(seats.lock().connections.len() <= 3 + STANDING);
    }

    #[test]
    fn few_files_leave_fewer_connections_and_always_one_of_each_kind() {
        for (connections, files, want) in [
            (512, None, (544, 512)),
            (512, Some(1_024), (512, 480)),
            (512, Some(256), (128, 96)),
            (512, Some(16), (8, 4)),
            (512, Some(0), (2, 1)),
            (1, None, (33, 1)),
            (usize::MAX, Some(100_000), (50_000, 49_968)),
        ] {
            let seats = Seats::new(connections, files);
            assert_eq!((seats.most_connections, seats.most_seated), want, "{connections} {files:?}");
        }
    }
}
