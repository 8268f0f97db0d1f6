//! The pieces of one state: each is a record of its own, and they are of use together only.

use std::collections::BTreeMap;

use crate::place::Place;

/// What is there of a state.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// How many the whole has.
    n_pieces: u16,
    /// By number. A file can say that there are many and hold few, so there is no room for those that are not there.
    places: BTreeMap<u16, Place>,
    disk_bytes: u64,
}

impl Pieces {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether it can be restored.
    pub(crate) fn is_whole(&self) -> bool {
        !self.is_empty() && self.places.len() == usize::from(self.n_pieces)
    }

    /// How many the whole has.
    pub(crate) fn n_pieces(&self) -> u16 {
        self.n_pieces
    }

    /// Bytes on disk of those that are there.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Whether all that is there is durable.
    pub(crate) fn is_durable(&self) -> bool {
        self.places.values().all(Place::is_durable)
    }

    pub(crate) fn get(&self, piece: usize) -> Option<&Place> {
        self.places.get(&u16::try_from(piece).ok()?)
    }

    /// Those that are there, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Place)> {
        self.places.iter().map(|(piece, place)| (usize::from(*piece), place))
    }

    /// Set the place of one of `n_pieces`; returns the one it had.
    pub(crate) fn put(&mut self, piece: usize, n_pieces: u16, place: Place) -> Option<Place> {
        self.n_pieces = n_pieces;
        self.disk_bytes += place.disk_bytes();
        let before = self.places.insert(piece as u16, place);
        self.disk_bytes -= before.as_ref().map_or(0, Place::disk_bytes);
        before
    }

    /// Take one out.
    pub(crate) fn take(&mut self, piece: usize) -> Option<Place> {
        let place = self.places.remove(&u16::try_from(piece).ok()?)?;
        self.disk_bytes -= place.disk_bytes();
        Some(place)
    }
}
