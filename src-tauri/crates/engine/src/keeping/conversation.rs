//! One conversation, as far as its recurrent states go.

use std::collections::BTreeSet;
use std::time::Instant;

use scheduler::{ChainHash, CheckpointClass};

/// A conversation of one name.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) name: String,
    /// Where what its system says ends, whether a state stands there or not.
    pub(super) system_end: Option<ChainHash>,
    pub(super) newest: Newest,
    /// States that were written for it and not buried.
    pub(super) on_disk: BTreeSet<ChainHash>,
    /// Whether it is worth a place on disk.
    pub(super) is_worth: bool,
    /// Whether there was no room for a state at its last return point: then the one before that still serves.
    pub(super) lacks_return_point: bool,
    /// Whether its states leave memory as soon as they are durable.
    pub(super) is_leaving: bool,
    /// Requests of it that run.
    n_running: usize,
    /// When the last one ended.
    rests_since: Option<Instant>,
}

/// The newest states of a conversation, each after so many tokens.
#[derive(Debug, Default)]
pub(super) struct Newest {
    system_end: Option<(usize, ChainHash)>,
    return_point: Option<(usize, ChainHash)>,
    answer_end: Option<(usize, ChainHash)>,
}

impl Conversation {
    /// One of this name that has nothing yet.
    pub(super) fn of(name: &str) -> Conversation {
        Conversation { name: name.to_owned(), ..Conversation::default() }
    }

    /// A request of it begins.
    pub(super) fn begin(&mut self, system_end: Option<ChainHash>, is_worth: bool) {
        self.n_running += 1;
        self.is_leaving = false;
        self.system_end = system_end;
        self.is_worth = is_worth;
    }

    /// A request of it has ended.
    pub(super) fn end(&mut self, now: Instant) {
        self.n_running = self.n_running.saturating_sub(1);
        self.rests_since = Some(now);
    }

    /// Since when nothing of it runs.
    pub(super) fn resting_since(&self) -> Option<Instant> {
        self.rests_since.filter(|_| self.n_running == 0)
    }

    /// Whether a state is one that it goes on with, or shares with others.
    pub(super) fn needs(&self, hash: &ChainHash) -> bool {
        self.newest.has(hash) || self.system_end == Some(*hash)
    }
}

impl Newest {
    /// Put a state in its place, for what it is kept for; returns the one that was there. One that is kept for nothing of
    /// a conversation's has no place.
    pub(super) fn put(&mut self, class: CheckpointClass, at: (usize, ChainHash)) -> Option<ChainHash> {
        let place = match class {
            CheckpointClass::SystemEnd => &mut self.system_end,
            CheckpointClass::ReturnPoint => &mut self.return_point,
            CheckpointClass::AnswerEnd => &mut self.answer_end,
            CheckpointClass::Periodic | CheckpointClass::GenerationStart => return None,
        };
        place.replace(at).map(|(_, before)| before)
    }

    /// It is none of them any more.
    pub(super) fn remove(&mut self, hash: &ChainHash) {
        for place in [&mut self.system_end, &mut self.return_point, &mut self.answer_end] {
            place.take_if(|(_, other)| other == hash);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = ChainHash> {
        [self.system_end, self.return_point, self.answer_end].into_iter().flatten().map(|(_, hash)| hash)
    }

    /// Those that are the conversation's own, with the tokens before them.
    pub(super) fn own(&self) -> impl Iterator<Item = (usize, ChainHash)> {
        [self.return_point, self.answer_end].into_iter().flatten()
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, hash: &ChainHash) -> bool {
        self.all().any(|other| other == *hash)
    }
}
