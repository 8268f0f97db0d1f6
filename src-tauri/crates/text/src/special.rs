//! Special tokens are found in a text before anything else is done to it.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::{TextError, TokenId};

/// Bytes of one of them: so far ahead a text is read for each that it contains.
const MAX_BYTES: usize = 1 << 10;
/// Bytes of all of them.
const MAX_TOTAL_BYTES: usize = 2 << 20;

/// A set of tokens that are looked for as text.
#[derive(Debug)]
pub(crate) struct SpecialTokens {
    finder: Option<AhoCorasick>,
    ids: Vec<TokenId>,
}

/// One part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Token(TokenId),
    Text(&'a str),
}

impl SpecialTokens {
    /// `ids` must be ids of `tokens` with text.
    pub(crate) fn new(tokens: &[String], ids: Vec<TokenId>) -> Result<SpecialTokens, TextError> {
        let finder = if ids.is_empty() {
            None
        } else {
            let texts = ids.iter().map(|&id| &tokens[id as usize]);
            let total: usize = texts.clone().map(String::len).sum();
            if total > MAX_TOTAL_BYTES || texts.clone().any(|text| text.len() > MAX_BYTES) {
                return Err(TextError::Vocabulary(format!(
                    "its {} special tokens have {total} bytes, and {MAX_TOTAL_BYTES} at most, {MAX_BYTES} each",
                    ids.len()
                )));
            }
            let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts);
            Some(finder.map_err(|e| TextError::Vocabulary(format!("too many special tokens: {e}")))?)
        };
        Ok(SpecialTokens { finder, ids })
    }

    /// Where these tokens are in the text, as [`SpecialTokens::parts`] finds them.
    pub(crate) fn spans(&self, text: &str) -> impl Iterator<Item = (Range<usize>, TokenId)> {
        let found = self.finder.iter().flat_map(move |finder| finder.find_iter(text));
        found.map(|m| (m.range(), self.ids[m.pattern()]))
    }

    /// Where the token begins within which `at` is; `at` itself where it is within none.
    pub(crate) fn start_of(&self, text: &str, at: usize) -> usize {
        // None is longer.
        let from = text.floor_char_boundary(at.saturating_sub(MAX_BYTES));
        let mut spans = self.spans(&text[from..]).map(|(range, _)| from + range.start..from + range.end);
        spans.find(|range| range.start < at && at < range.end).map_or(at, |range| range.start)
    }

    /// Cuts the text at these tokens; where two overlap the first wins, of two that start together the longer.
    pub(crate) fn parts<'a>(&self, text: &'a str) -> impl Iterator<Item = Part<'a>> {
        let found = self.finder.iter().flat_map(move |finder| finder.find_iter(text));
        let matches = found.map(|m| (m.start(), m.end(), Some(self.ids[m.pattern()])));
        let mut from = 0;
        matches.chain([(text.len(), text.len(), None)]).flat_map(move |(start, end, id)| {
            let before = &text[from..start];
            from = end;
            [(!before.is_empty()).then_some(Part::Text(before)), id.map(Part::Token)].into_iter().flatten()
        })
    }
}
