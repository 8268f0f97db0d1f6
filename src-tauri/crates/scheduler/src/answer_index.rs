//! Finds the token ids that a model generated when a client sends their text back.
//!
//! Text may tokenise otherwise than it was generated: sampling picks unlikely splits, a stop string cuts a token,
//! a template trims. Without the generated ids, the next turn of a conversation would miss the cache from the
//! start of the last answer on. The lookup is by content: the exact tokens before the answer, and the answer's
//! bytes. Who asks plays no part, and what is put in place spells exactly the text that was sent.
//!
//! ```text
//!  rendered   <|user|>Hi<|assistant|>Hello there<|end|><|user|>And now?<|assistant|>
//!                                    ▲ an answer start, where its generation prompt ended
//!  prompt     [ encode(text before) ][ generated ids ][ encode(text after them)     ]
//! ```
//!
//! The one who renders templates knows where answers start (in a plain text [`crate::AnswerStarts`] finds it) and
//! calls [`crate::splice_prompt`] before it submits; the one who generates calls [`AnswerIndex::record`] when a sequence
//! ends.

use std::collections::{BTreeMap, HashMap};

use crate::ids::TokenId;
use crate::prefix_trail::{AnswerKey, PrefixTrail};

/// Answers remembered after one and the same prompt: what asking again a few times gives.
const MAX_ANSWERS_PER_KEY: usize = 8;
/// What an answer costs beside its ids and bytes, roughly.
const OVERHEAD_BYTES: usize = 160;

/// One generated token and the bytes that it added to the answer's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerToken {
    /// The token.
    pub id: TokenId,
    /// Its bytes in the text; empty for a token that shows nothing.
    pub bytes: Vec<u8>,
}

/// Generated ids that stand for the start of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splice {
    /// The ids, at least one.
    pub tokens: Vec<TokenId>,
    /// How many bytes of the text they stand for, at least one.
    pub n_bytes: usize,
}

#[derive(Debug, Clone)]
struct Answer {
    tokens: Vec<TokenId>,
    /// Where each token's bytes end in `bytes`.
    ends: Vec<usize>,
    bytes: Vec<u8>,
    /// Its place in the order of use; 0 before the first.
    last_used: u64,
}

impl Answer {
    fn n_bytes(&self) -> usize {
        self.bytes.len() + self.tokens.len() * (size_of::<TokenId>() + size_of::<usize>()) + OVERHEAD_BYTES
    }

    /// How many leading tokens spell the start of `text`, ending where a character ends, and their bytes.
    fn matched(&self, text: &[u8]) -> (usize, usize) {
        let n_common = self.bytes.iter().zip(text).take_while(|(a, b)| a == b).count();
        let ends_char = |end: usize| text.get(end).is_none_or(|byte| byte & 0xc0 != 0x80);
        let mut n_tokens = self.ends.partition_point(|&end| end <= n_common);
        while n_tokens > 0 && !ends_char(self.ends[n_tokens - 1]) {
            n_tokens -= 1;
        }
        (n_tokens, if n_tokens == 0 { 0 } else { self.ends[n_tokens - 1] })
    }
}

/// Remembers generated answers within a bound of bytes; the least recently used go first.
#[derive(Debug, Clone)]
pub struct AnswerIndex {
    salt: [u8; 32],
    max_bytes: usize,
    n_bytes: usize,
    answers: HashMap<AnswerKey, Vec<Answer>>,
    /// Answers in the order of use.
    by_use: BTreeMap<u64, AnswerKey>,
    n_uses: u64,
}

impl AnswerIndex {
    /// An empty index for one model; `salt` is its fingerprint, `max_bytes` bounds ids, bytes and overhead.
    pub fn new(salt: [u8; 32], max_bytes: usize) -> AnswerIndex {
        AnswerIndex {
            salt,
            max_bytes,
            n_bytes: 0,
            answers: HashMap::new(),
            by_use: BTreeMap::new(),
            n_uses: 0,
        }
    }

    /// The address of an answer that follows `tokens`.
    pub fn key(&self, tokens: &[TokenId]) -> AnswerKey {
        PrefixTrail::of(self.salt, tokens).key()
    }

    /// Bytes that are taken up now; never above the bound.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Remember an answer that was generated after exactly the prompt `before`.
    ///
    /// Leave out an end-of-sequence token: the template writes it. Tokens that a stop string cut off the text
    /// belong in, as do those that show nothing; a later text uses as much as it repeats.
    pub fn record(&mut self, before: &[TokenId], answer: &[AnswerToken]) {
        let key = self.key(before);
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(answer.len());
        for token in answer {
            bytes.extend_from_slice(&token.bytes);
            ends.push(bytes.len());
        }
        let tokens: Vec<TokenId> = answer.iter().map(|token| token.id).collect();
        let new = Answer { tokens, ends, bytes, last_used: 0 };
        if new.bytes.is_empty() || new.n_bytes() > self.max_bytes {
            return;
        }
        // The start of an answer, as an interrupted one leaves it, adds nothing to the whole one.
        let known = self.answers.get(&key).map_or(&[][..], Vec::as_slice);
        if let Some(place) = known.iter().position(|old| old.tokens.starts_with(&new.tokens)) {
            self.touch(&key, place);
            return;
        }
        if let Some(place) = known.iter().position(|old| new.tokens.starts_with(&old.tokens)) {
            self.remove(&key, place);
        }
        if self.answers.get(&key).is_some_and(|known| known.len() >= MAX_ANSWERS_PER_KEY) {
            self.remove_oldest_of(&key);
        }
        while self.n_bytes + new.n_bytes() > self.max_bytes {
            let Some(oldest) = self.by_use.first_key_value().map(|(_, key)| *key) else { return };
            self.remove_oldest_of(&oldest);
        }
        self.n_bytes += new.n_bytes();
        let answers = self.answers.entry(key).or_default();
        answers.push(new);
        let place = answers.len() - 1;
        self.touch(&key, place);
    }

    /// The generated ids that the start of `text` was generated as, after exactly the tokens of `before`.
    ///
    /// Of several remembered answers the one that covers most bytes wins. Ends at a whole token and never within
    /// a UTF-8 character of `text`; `None` when not even one token's worth matches.
    pub fn splice(&mut self, before: &AnswerKey, text: &[u8]) -> Option<Splice> {
        let answers = self.answers.get(before)?;
        let matches = answers.iter().enumerate().map(|(place, answer)| (answer.matched(text), place));
        let ((n_tokens, n_bytes), place) = matches.max_by_key(|((_, n_bytes), _)| *n_bytes)?;
        if n_bytes == 0 {
            return None;
        }
        let tokens = answers[place].tokens[..n_tokens].to_vec();
        self.touch(before, place);
        Some(Splice { tokens, n_bytes })
    }

    /// The answers, as they were generated, that are remembered after exactly the tokens of `before`.
    pub fn after(&self, before: &AnswerKey) -> Vec<Vec<TokenId>> {
        let answers = self.answers.get(before).into_iter().flatten();
        answers.map(|answer| answer.tokens.clone()).collect()
    }

    /// Check the bookkeeping.
    ///
    /// # Errors
    /// Names the first contradiction.
    #[cfg(test)]
    pub(crate) fn check_integrity(&self) -> Result<(), String> {
        let all = || self.answers.iter().flat_map(|(key, answers)| answers.iter().map(move |a| (key, a)));
        let n_bytes: usize = all().map(|(_, answer)| answer.n_bytes()).sum();
        if n_bytes != self.n_bytes || n_bytes > self.max_bytes {
            return Err(format!("{n_bytes} bytes, {} booked, {} allowed", self.n_bytes, self.max_bytes));
        }
        if all().count() != self.by_use.len() || self.answers.values().any(Vec::is_empty) {
            return Err(format!("{} answers, {} in order of use", all().count(), self.by_use.len()));
        }
        match all().find(|(key, answer)| self.by_use.get(&answer.last_used) != Some(key)) {
            Some((key, _)) => Err(format!("{key:?} is not in its place in the order of use")),
            None => Ok(()),
        }
    }

    fn touch(&mut self, key: &AnswerKey, place: usize) {
        let Some(answer) = self.answers.get_mut(key).and_then(|answers| answers.get_mut(place)) else {
            return;
        };
        if self.by_use.get(&answer.last_used) == Some(key) {
            self.by_use.remove(&answer.last_used);
        }
        self.n_uses += 1;
        answer.last_used = self.n_uses;
        self.by_use.insert(self.n_uses, *key);
    }

    fn remove(&mut self, key: &AnswerKey, place: usize) {
        let Some(answers) = self.answers.get_mut(key) else { return };
        let answer = answers.swap_remove(place);
        if answers.is_empty() {
            self.answers.remove(key);
        }
        self.by_use.remove(&answer.last_used);
        self.n_bytes -= answer.n_bytes();
    }

    fn remove_oldest_of(&mut self, key: &AnswerKey) {
        let Some(answers) = self.answers.get(key) else { return };
        let oldest = answers.iter().enumerate().min_by_key(|(_, answer)| answer.last_used);
        if let Some((place, _)) = oldest {
            self.remove(key, place);
        }
    }
}
