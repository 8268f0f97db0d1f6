//! Finds where in a plain text earlier answers start, so that their ids can be spliced in there.
//!
//! A rendered chat says where its answers start; a text that a client goes on with does not. So the texts that were
//! answered are remembered by length and digest, with the first bytes of what was answered: where a text repeats
//! both, an answer starts.

use std::collections::{BTreeMap, VecDeque};

/// Bytes of an answer that must come back. A shorter one is not worth a seam in how the text is cut into tokens.
const OPENING: usize = 16;
/// Starts that are remembered, some 100 bytes each.
const MAX_STARTS: usize = 4096;

/// The starts of the answers to plain texts; the oldest go first.
#[derive(Debug, Clone, Default)]
pub struct AnswerStarts {
    by_length: BTreeMap<usize, Vec<Start>>,
    /// In the order in which they were recorded, by the length of the text before.
    order: VecDeque<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    /// Of the text before it.
    digest: [u8; 32],
    opening: [u8; OPENING],
}

impl AnswerStarts {
    /// Remember that `answer` followed the text `before`.
    pub fn record(&mut self, before: &[u8], answer: &[u8]) {
        let Some(opening) = answer.first_chunk() else { return };
        let start = Start { digest: blake3::hash(before).into(), opening: *opening };
        let same_length = self.by_length.entry(before.len()).or_default();
        if same_length.contains(&start) {
            return;
        }
        same_length.push(start);
        self.order.push_back(before.len());
        if self.order.len() > MAX_STARTS {
            self.forget_oldest();
        }
    }

    /// Where in `text` such answers start, ascending.
    pub fn find(&self, text: &[u8]) -> Vec<usize> {
        let mut hasher = blake3::Hasher::new();
        let mut hashed = 0;
        let mut found = Vec::new();
        let n_before = text.len().saturating_sub(OPENING - 1);
        for (&length, starts) in self.by_length.range(..n_before) {
            hasher.update(&text[hashed..length]);
            hashed = length;
            let is_repeated = |start: &&Start| text[length..].starts_with(&start.opening);
            let mut repeated = starts.iter().filter(is_repeated).peekable();
            if repeated.peek().is_none() {
                continue;
            }
            let digest: [u8; 32] = hasher.finalize().into();
            if repeated.any(|start| start.digest == digest) {
                found.push(length);
            }
        }
        found
    }

    fn forget_oldest(&mut self) {
        let Some(length) = self.order.pop_front() else { return };
        if let Some(starts) = self.by_length.get_mut(&length) {
            starts.remove(0);
            if starts.is_empty() {
                self.by_length.remove(&length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_starts_where_text_and_opening_come_back() {
        let mut starts = AnswerStarts::default();
        starts.record(b"one two", b" three four five six");
        starts.record(b"", b"at the very start of it");
        starts.record(b"two one", b" is as long as the other");
        assert_eq!(starts.find(b"one two three four five six seven"), [7]);
        assert_eq!(starts.find(b"one two three four five"), [7], "16 bytes of it");
        assert_eq!(starts.find(b"one two three four fiv"), [0; 0], "15 bytes of it");
        assert_eq!(starts.find(b"two one three four five six"), [0; 0], "another text came before");
        assert_eq!(starts.find(b"one two THREE four five six"), [0; 0], "another answer follows");
        assert_eq!(starts.find(b"at the very start of it all"), [0]);
        assert_eq!(starts.find(b""), [0; 0]);
        starts.record(b"one two three four five six, and", b" a second answer behind it");
        let both = b"one two three four five six, and a second answer behind it.";
        assert_eq!(starts.find(both), [7, 32]);
    }

    #[test]
    fn short_answers_are_not_remembered_and_the_oldest_are_forgotten() {
        let mut starts = AnswerStarts::default();
        starts.record(b"one two", b" three four fiv");
        assert_eq!(starts.find(b"one two three four five six"), [0; 0]);
        for i in 0..MAX_STARTS + 10 {
            let before = format!("prompt {i}");
            starts.record(before.as_bytes(), b" and what was answered to it");
            starts.record(before.as_bytes(), b" and what was answered to it");
        }
        let find = |i: usize| starts.find(format!("prompt {i} and what was answered to it").as_bytes());
        assert_eq!(find(9), [0; 0]);
        assert_eq!(find(10), [9]);
        assert_eq!(find(MAX_STARTS + 9), [11]);
        assert_eq!(starts.by_length.values().map(Vec::len).sum::<usize>(), MAX_STARTS);
        assert_eq!(starts.order.len(), MAX_STARTS);
    }
}
