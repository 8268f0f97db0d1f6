//! Which models answered the last requests that asked for a diagnosis.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::dialects::anthropic::diagnostics::Diary;

/// How many are kept.
const MOST: usize = 256;

/// The fingerprints of models by the ids of the messages that they wrote, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct RequestDiary {
    /// Guards the list; held for a walk over at most [`MOST`] entries.
    noted: Mutex<VecDeque<(String, [u8; 32])>>,
}

impl Diary for RequestDiary {
    fn model_of(&self, message_id: &str) -> Option<[u8; 32]> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.iter().find(|(id, _)| id == message_id).map(|(_, model)| *model)
    }

    fn note(&self, message_id: String, model: [u8; 32]) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() == MOST {
            noted.pop_front();
        }
        noted.push_back((message_id, model));
    }
}
