//! Responses that later requests may go on with: in memory, the last ones, each for who asked for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::dialects::responses::history::{KeptResponse, Shelf};

/// How many are kept.
const MOST: usize = 256;
/// Bytes of all of them together.
const MOST_BYTES: usize = 64 << 20;

/// Who asked: what stands for the key that came with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner([u8; 32]);

impl Owner {
    /// Who shows this key; without one they are all the same.
    pub(crate) fn of(key: Option<&[u8]>) -> Owner {
        Owner(key.map_or([0; 32], |key| *blake3::hash(key).as_bytes()))
    }
}

/// The responses that are kept, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct KeptResponses {
    /// Guards the list; held for a walk over at most [`MOST`] entries.
    kept: Mutex<VecDeque<(Owner, Arc<KeptResponse>)>>,
}

impl KeptResponses {
    /// The response of this id, if it is `owner`'s.
    pub(crate) fn find(&self, owner: Owner, id: &str) -> Option<Arc<KeptResponse>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(whose, response): &&(Owner, Arc<KeptResponse>)| *whose == owner && response.id == id;
        kept.iter().find(is_it).map(|(_, response)| Arc::clone(response))
    }

    /// Forget a response of `owner`'s; whether there was one.
    pub(crate) fn forget(&self, owner: Owner, id: &str) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(whose, response)| *whose == owner && response.id == id);
        place.and_then(|at| kept.remove(at)).is_some()
    }

    /// Keep a response. The oldest ones make room; one that is larger than all the room is not kept.
    fn keep(&self, owner: Owner, response: KeptResponse) {
        let mut n_bytes = response.n_bytes();
        if n_bytes > MOST_BYTES {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        n_bytes += kept.iter().map(|(_, response)| response.n_bytes()).sum::<usize>();
        while kept.len() >= MOST || n_bytes > MOST_BYTES {
            let Some((_, oldest)) = kept.pop_front() else { break };
            n_bytes -= oldest.n_bytes();
        }
        kept.push_back((owner, Arc::new(response)));
    }
}

/// What one owner sees of them.
pub(crate) struct OwnShelf {
    pub(crate) owner: Owner,
    pub(crate) kept: Arc<KeptResponses>,
}

impl Shelf for OwnShelf {
    fn find(&self, id: &str) -> Option<Arc<KeptResponse>> {
        self.kept.find(self.owner, id)
    }

    fn keep(&self, response: KeptResponse) {
        self.kept.keep(self.owner, response);
    }
}

#[cfg(test)]
mod tests {
    use text::ChatMessage;

    use super::*;

    fn response(id: &str, n_bytes: usize) -> KeptResponse {
        let messages = vec![ChatMessage::new("user", "x".repeat(n_bytes))];
        KeptResponse { id: id.to_owned(), body: String::new(), messages }
    }

    #[test]
    fn a_response_is_found_and_forgotten_by_whom_it_was_for_only() {
        let (one, other) = (Owner::of(Some(b"sk-1")), Owner::of(None));
        let kept = KeptResponses::default();
        kept.keep(one, response("a", 1));
        assert!(kept.find(one, "a").is_some() && kept.find(other, "a").is_none());
        assert!(!kept.forget(other, "a") && kept.forget(one, "a") && !kept.forget(one, "a"));
        assert!(kept.find(one, "a").is_none());
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let (owner, kept) = (Owner::of(None), KeptResponses::default());
        for n in 0..=MOST {
            kept.keep(owner, response(&n.to_string(), 1));
        }
        assert!(kept.find(owner, "0").is_none() && kept.find(owner, "1").is_some());
        kept.keep(owner, response("large", MOST_BYTES / 2));
        kept.keep(owner, response("larger", MOST_BYTES / 2));
        assert!(kept.find(owner, "large").is_none() && kept.find(owner, "larger").is_some());
        kept.keep(owner, response("too large", MOST_BYTES));
        assert!(kept.find(owner, "too large").is_none() && kept.find(owner, "larger").is_some());
    }
}
