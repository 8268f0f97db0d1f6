//! From generated tokens to text, piece by piece, never half a character.

use std::collections::HashMap;
use std::sync::Arc;

use crate::TokenId;

/// The bytes of every token, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pieces {
    /// Adds the bytes of the next token.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    /// The bytes of a token; none if there is no such token.
    pub(crate) fn get(&self, id: TokenId) -> &[u8] {
        let i = id as usize;
        let Some(&end) = self.ends.get(i) else { return &[] };
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..end]
    }
}

/// Turns a stream of tokens into text; only whole characters leave it.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    pieces: Arc<Pieces>,
    /// The beginning of a character, at most three bytes.
    pending: Vec<u8>,
    /// Tokens without bytes that have a text here all the same.
    shown: Arc<HashMap<TokenId, Box<str>>>,
}

impl Detokenizer {
    /// Text that follows `prompt_tail`: if that ends inside a character, the first tokens complete it.
    pub(crate) fn new(pieces: Arc<Pieces>, prompt_tail: &[TokenId]) -> Detokenizer {
        let mut this = Detokenizer { pieces, pending: Vec::new(), shown: Arc::default() };
        // No character is longer than four bytes, so the last four tokens with bytes decide.
        let with_bytes = |id: &&TokenId| !this.pieces.get(**id).is_empty();
        let mut tail: Vec<TokenId> = prompt_tail.iter().rev().filter(with_bytes).take(4).copied().collect();
        tail.reverse();
        for id in tail {
            this.push(id);
        }
        this
    }

    /// The same, with texts for tokens that have no bytes.
    pub(crate) fn showing(mut self, shown: Arc<HashMap<TokenId, Box<str>>>) -> Detokenizer {
        self.shown = shown;
        self
    }

    /// The text that `id` completes; empty while a character is incomplete. Invalid bytes become U+FFFD.
    pub fn push(&mut self, id: TokenId) -> String {
        match self.shown.get(&id) {
            Some(text) => self.pending.extend_from_slice(text.as_bytes()),
            None => self.pending.extend_from_slice(self.pieces.get(id)),
        }
        let mut text = String::with_capacity(self.pending.len());
        let mut held = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            held = chunk.invalid().len();
            // Only the last chunk can be the beginning of a character that the next token completes.
            let is_last = chunk.invalid().as_ptr_range().end == self.pending.as_ptr_range().end;
            if held > 0 && !(is_last && is_incomplete(chunk.invalid())) {
                text.push(char::REPLACEMENT_CHARACTER);
                held = 0;
            }
        }
        self.pending.drain(..self.pending.len() - held);
        text
    }

    /// What was held back; an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Whether more bytes could make this a character.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Detokenizer, Pieces};

    /// A vocabulary of the 256 bytes.
    fn bytes() -> Arc<Pieces> {
        let mut pieces = Pieces::default();
        (0..=255u8).for_each(|byte| pieces.push(&[byte]));
        Arc::new(pieces)
    }

    fn check(input: &[u8], pushed: &[&str], rest: &str) {
        let mut detokenizer = Detokenizer::new(bytes(), &[]);
        let out: Vec<String> = input.iter().map(|&b| detokenizer.push(u32::from(b))).collect();
        assert_eq!(out, pushed, "{input:x?}");
        assert_eq!(detokenizer.finish(), rest, "{input:x?}");
        assert_eq!(detokenizer.finish(), "", "finishing twice repeats nothing");
    }

    #[test]
    fn a_character_leaves_only_when_it_is_whole() {
        check("aé".as_bytes(), &["a", "", "é"], "");
        check("👩".as_bytes(), &["", "", "", "👩"], "");
        check("👩".as_bytes().split_last().unwrap().1, &["", "", ""], "\u{fffd}");
    }

    #[test]
    fn invalid_bytes_become_replacement_characters_and_hold_nothing_back() {
        check(&[0xff, b'a'], &["\u{fffd}", "a"], "");
        check(&[0xc3, b'a'], &["", "\u{fffd}a"], "");
        check(&[0xf0, 0x9f, 0xf0, 0x9f, 0x91, 0xa9], &["", "", "\u{fffd}", "", "", "👩"], "");
        check(&[0xe2, 0x80, 0xe2], &["", "", "\u{fffd}"], "\u{fffd}");
    }

    #[test]
    fn whatever_arrives_the_text_is_that_of_all_bytes_together() {
        // A linear congruential generator is enough to reach every kind of broken sequence.
        let mut state = 1u32;
        for _ in 0..2_000 {
            let mut input = Vec::new();
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                input
                    .push([b'a', 0xc3, 0xa9, 0xe2, 0x80, 0xf0, 0x9f, 0x91, 0xff][(state >> 16) as usize % 9]);
            }
            let mut detokenizer = Detokenizer::new(bytes(), &[]);
            let mut text: String = input.iter().map(|&b| detokenizer.push(u32::from(b))).collect();
            text.push_str(&detokenizer.finish());
            assert_eq!(text, String::from_utf8_lossy(&input), "{input:x?}");
        }
    }

    #[test]
    fn a_prompt_that_ends_inside_a_character_is_completed() {
        let tail: Vec<u32> = "x👩".as_bytes()[..3].iter().map(|&b| u32::from(b)).collect();
        let mut detokenizer = Detokenizer::new(bytes(), &tail);
        assert_eq!(detokenizer.push(0x91), "");
        assert_eq!(detokenizer.push(0xa9), "👩");
    }

    #[test]
    fn a_token_out_of_range_is_no_text() {
        let mut detokenizer = Detokenizer::new(bytes(), &[]);
        assert_eq!(detokenizer.push(256), "");
        assert_eq!(detokenizer.push(u32::MAX), "");
    }
}
