//! Whose turn it is on a connection, with the place that it has.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::seats::Place;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Doing {
    /// It is the client's turn: nothing of a request, or a part of its head, has come.
    Listening,
    /// There is a request, and its answer has not ended.
    Answering,
    /// The answer has ended and is not all out.
    Sending,
}

/// A connection's place, what it is doing, and whether what came on it made sense.
#[derive(Debug)]
pub(crate) struct Turn {
    place: Place,
    /// A [`Doing`].
    doing: AtomicU8,
    is_refused: AtomicBool,
}

impl Turn {
    pub(crate) fn new(place: Place) -> Turn {
        Turn { place, doing: AtomicU8::new(Doing::Listening as u8), is_refused: AtomicBool::new(false) }
    }

    /// Take a seat for the request; false when all are taken.
    pub(crate) fn sit_down(&self) -> bool {
        self.place.sit_down()
    }

    /// Begin to be idle, as of now.
    pub(crate) fn stand_up(&self) {
        self.place.stand_up();
    }

    pub(crate) fn is(&self, doing: Doing) -> bool {
        self.doing.load(Ordering::Acquire) == doing as u8
    }

    pub(crate) fn set(&self, doing: Doing) {
        self.doing.store(doing as u8, Ordering::Release);
    }

    /// What came was no request, and hyper ends the connection.
    pub(crate) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Release);
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Acquire)
    }
}
