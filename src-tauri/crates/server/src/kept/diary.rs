//! What the last requests that asked for a diagnosis were made from.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::dialects::anthropic::diagnostics::{Diary, Prints};

/// How many are kept.
const MOST: usize = 256;

/// The prints of requests by the ids of the messages that answered them, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct RequestDiary {
    /// Guards the list; held for a walk over at most [`MOST`] entries.
    noted: Mutex<VecDeque<(String, Prints)>>,
}

impl Diary for RequestDiary {
    fn find(&self, message_id: &str) -> Option<Prints> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.iter().find(|(id, _)| id == message_id).map(|(_, prints)| *prints)
    }

    fn note(&self, message_id: String, prints: Prints) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() == MOST {
            noted.pop_front();
        }
        noted.push_back((message_id, prints));
    }
}
