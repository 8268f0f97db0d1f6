//! The `bert` kind of vocabulary: words in plain letters, each cut into the longest tokens from its start.

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind, StartKind};
use regex_syntax::hir::{Class, ClassUnicode, HirKind};
use unicode_normalization::char::decompose_canonical;

use crate::encoding::{EncodeError, Encoding};
use crate::vocabulary::{SPACE, Vocabulary};
use crate::{TextError, TextMetadata, TokenId};

/// Bytes that a token has at most: so far ahead a text is read for each of its tokens.
const MAX_TOKEN_BYTES: usize = 256;

/// A WordPiece vocabulary, ready to encode.
#[derive(Debug)]
pub(crate) struct WordPiece {
    finder: AhoCorasick,
    /// Ids of the finder's patterns.
    ids: Vec<TokenId>,
    unk: Option<TokenId>,
    to_lower_case: bool,
    strip_accents: bool,
    kinds: CharKinds,
}

/// What a text is cut at, and what is left out of it.
#[derive(Debug)]
struct CharKinds {
    accents: ClassUnicode,
    controls: ClassUnicode,
    /// Words of one character each.
    alone: ClassUnicode,
}

impl WordPiece {
    pub(crate) fn new(meta: &TextMetadata, vocabulary: &Vocabulary) -> Result<WordPiece, TextError> {
        let reachable =
            |(id, text): &(TokenId, &String)| !text.is_empty() && vocabulary.is_reachable_by_merging(*id);
        let tokens: Vec<(TokenId, &String)> = (0..).zip(&meta.tokens).filter(reachable).collect();
        if let Some((id, text)) = tokens.iter().find(|(_, text)| text.len() > MAX_TOKEN_BYTES) {
            return Err(TextError::Unsupported(format!(
                "token {id} has {} bytes, and a `bert` vocabulary's have {MAX_TOKEN_BYTES} at most",
                text.len()
            )));
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .start_kind(StartKind::Anchored)
            .build(tokens.iter().map(|(_, text)| text))
            .map_err(|e| TextError::Vocabulary(format!("it has too many tokens: {e}")))?;
        let to_lower_case = meta.lower_case.unwrap_or(true);
        Ok(WordPiece {
            finder,
            ids: tokens.iter().map(|(id, _)| *id).collect(),
            unk: vocabulary.unk,
            to_lower_case,
            strip_accents: meta.strip_accents.unwrap_or(to_lower_case),
            kinds: CharKinds::new(),
        })
    }

    /// Encodes one stretch of text without special tokens. A word that its tokens do not spell is unknown as a whole.
    pub(crate) fn encode(&self, text: &str, encoding: &mut Encoding<'_>) -> Result<(), EncodeError> {
        let mut word = String::new();
        let mut n_read = 0;
        for c in text.chars() {
            n_read += c.len_utf8();
            let c = if self.strip_accents { without_accent(c) } else { c };
            if c.is_whitespace() {
                self.encode_word(&mut word, encoding)?;
            } else if matches!(c, '\0' | '\u{fffd}')
                || is_in(&self.kinds.controls, c)
                || self.strip_accents && is_in(&self.kinds.accents, c)
            {
                continue;
            } else {
                let is_alone = is_in(&self.kinds.alone, c);
                if is_alone {
                    self.encode_word(&mut word, encoding)?;
                }
                // What it was marked with is gone, so only the first of what a capital may become is a letter.
                let lower = c.to_lowercase().next().filter(|_| self.to_lower_case);
                word.push(lower.unwrap_or(c));
                if is_alone {
                    self.encode_word(&mut word, encoding)?;
                }
            }
            encoding.go_on(std::mem::take(&mut n_read))?;
        }
        self.encode_word(&mut word, encoding)?;
        encoding.go_on(0)
    }

    /// Encodes a word, if it is one, and empties it.
    fn encode_word(&self, word: &mut String, encoding: &mut Encoding<'_>) -> Result<(), EncodeError> {
        if word.is_empty() {
            return Ok(());
        }
        word.insert(0, SPACE);
        let n_before = encoding.ids.len();
        let mut at = 0;
        while at < word.len() {
            let input = Input::new(word.as_str()).span(at..word.len()).anchored(Anchored::Yes);
            let Some(found) = self.finder.find(input) else {
                encoding.ids.truncate(n_before);
                encoding.ids.extend(self.unk);
                break;
            };
            encoding.ids.push(self.ids[found.pattern()]);
            encoding.keep_on(found.len())?;
            at = found.end();
        }
        word.clear();
        Ok(())
    }
}

impl CharKinds {
    fn new() -> CharKinds {
        CharKinds {
            accents: class(r"\p{M}"),
            controls: class(r"[\p{Cc}\p{Cf}\p{Co}]"),
            alone: class(
                r"[\p{P}$+<=>^`|~\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{20000}-\x{2a6df}\x{2a700}-\x{2b73f}\x{2b740}-\x{2b81f}\x{2b920}-\x{2ceaf}\x{f900}-\x{faff}\x{2f800}-\x{2fa1f}]",
            ),
        }
    }
}

fn class(pattern: &str) -> ClassUnicode {
    let parsed = regex_syntax::parse(pattern).expect("the pattern is one of three above");
    match parsed.into_kind() {
        HirKind::Class(Class::Unicode(class)) => class,
        _ => ClassUnicode::empty(),
    }
}

fn is_in(class: &ClassUnicode, c: char) -> bool {
    let ranges = class.ranges();
    let after = ranges.partition_point(|range| range.start() <= c);
    after.checked_sub(1).is_some_and(|i| c <= ranges[i].end())
}

/// The first character of what this one is made of, as llama.cpp reads it: for `é` an `e`.
fn without_accent(c: char) -> char {
    let mut first = None;
    decompose_canonical(c, |part| first = first.or(Some(part)));
    first.unwrap_or(c)
}
