//! Finds the token ids that a model generated when a client sends their text back.
//!
//! Text may tokenise otherwise than it was generated: sampling picks unlikely splits, a stop string cuts a token,
//! a template trims. Without the generated ids, the next turn of a conversation would miss the cache from the
//! start of the last answer on. The lookup is by content: the tokens before the answer, and the answer's bytes.

use crate::ids::TokenId;

/// The address of the exact token sequence before an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnswerKey([u8; 32]);

/// One generated token and the bytes that it added to the answer's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerToken {
    /// The token.
    pub id: TokenId,
    /// Its bytes in the text; empty for a token that shows nothing.
    pub bytes: Vec<u8>,
}

/// A prompt put together from text and remembered answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplicedPrompt {
    /// The prompt's tokens.
    pub tokens: Vec<TokenId>,
    /// How many of them are generated ids that were spliced in.
    pub n_spliced: usize,
    /// For each answer start that was given: how many tokens of the prompt precede it.
    pub answer_positions: Vec<usize>,
}

/// Remembers generated answers within a bound of bytes; the least recently used go first.
pub struct AnswerIndex {
    max_bytes: usize,
}

impl AnswerIndex {
    /// An empty index for one model; `salt` is its fingerprint, `max_bytes` bounds ids, bytes and overhead.
    pub fn new(salt: [u8; 32], max_bytes: usize) -> AnswerIndex {
        let _ = salt;
        AnswerIndex { max_bytes }
    }

    /// The address of an answer that follows `tokens`.
    pub fn key(&self, tokens: &[TokenId]) -> AnswerKey {
        unimplemented!("{tokens:?} {}", self.max_bytes)
    }

    /// Remember an answer that was generated after exactly `before`.
    ///
    /// Only tokens whose KV was computed or will be: the end-of-sequence token is left out.
    pub fn record(&mut self, before: &[TokenId], answer: &[AnswerToken]) {
        unimplemented!("{before:?} {answer:?}")
    }

    /// The generated ids whose bytes `text` starts with, after exactly the tokens of `before`.
    ///
    /// Of several remembered answers the one that covers most bytes wins. Ends at a whole token and never within
    /// a UTF-8 character of `text`. Returns the ids and how many bytes of `text` they stand for; `None` when not
    /// even the first token matches.
    pub fn splice(&mut self, before: &AnswerKey, text: &[u8]) -> Option<(Vec<TokenId>, usize)> {
        unimplemented!("{before:?} {text:?}")
    }

    /// Tokenise a rendered prompt, with remembered ids where the text of an earlier answer is unchanged.
    ///
    /// `answer_starts` are the byte offsets in `text` at which the assistant's answers start, ascending: exactly
    /// where the generation prompt ended when they were generated. Offsets out of order or off a character
    /// boundary are passed over. `encode(piece, is_start)` tokenises a piece of text; `is_start` is true for the
    /// piece at the prompt's beginning only, which may get a BOS token.
    pub fn splice_prompt(
        &mut self,
        text: &str,
        answer_starts: &[usize],
        encode: &mut dyn FnMut(&str, bool) -> Vec<TokenId>,
    ) -> SplicedPrompt {
        let _ = (text, answer_starts, encode);
        unimplemented!()
    }
}
