//! The `gpt2` kind of vocabulary: text cut into words, the bytes of a word merged by a list of pairs.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::merge::Merger;
use crate::vocabulary::{Vocabulary, byte_level};
use crate::words::WordSplitter;
use crate::{TextError, TextMetadata, TokenId};

/// A byte-level BPE vocabulary, ready to encode.
#[derive(Debug)]
pub(crate) struct BytePair {
    splitter: WordSplitter,
    bytes: Box<[Option<TokenId>; 256]>,
    /// A pair of tokens to (rank, the token they form).
    merges: HashMap<(TokenId, TokenId), (u32, TokenId), RandomState>,
    /// Bytes of a token to its id; filled only where a word that is a token is taken whole.
    whole_words: HashMap<Box<[u8]>, TokenId>,
}

impl BytePair {
    pub(crate) fn new(meta: &TextMetadata, vocabulary: &Vocabulary) -> Result<BytePair, TextError> {
        let splitter = WordSplitter::new(meta.pre.as_deref().unwrap_or("default"))?;
        if meta.merges.is_empty() {
            return Err(TextError::Vocabulary("it has no merges".into()));
        }
        let ids: HashMap<&str, TokenId> = (0..)
            .zip(&meta.tokens)
            .filter(|&(id, text)| !text.is_empty() && vocabulary.is_reachable_by_merging(id))
            .map(|(id, text)| (text.as_str(), id))
            .collect();

        let mut bytes = Box::new([None; 256]);
        for byte in 0..=255u8 {
            let c = byte_level::char_of(byte);
            bytes[usize::from(byte)] = ids.get(c.encode_utf8(&mut [0; 4]) as &str).copied();
        }
        let mut merges = HashMap::with_capacity_and_hasher(meta.merges.len(), RandomState::default());
        for (rank, merge) in (0..).zip(&meta.merges) {
            let (left, right) = split_merge(merge)
                .ok_or_else(|| TextError::Vocabulary(format!("merge {rank} is not a pair: {merge:?}")))?;
            let id = |text: &str| {
                ids.get(text).copied().ok_or_else(|| {
                    TextError::Vocabulary(format!("merge {rank} {merge:?} needs a token {text:?}"))
                })
            };
            let joined = id(&format!("{left}{right}"))?;
            merges.entry((id(left)?, id(right)?)).or_insert((rank, joined));
        }
        let whole_words = if splitter.takes_whole_words() {
            ids.iter().map(|(text, &id)| (byte_level::decode(text).into(), id)).collect()
        } else {
            HashMap::new()
        };
        Ok(BytePair { splitter, bytes, merges, whole_words })
    }

    pub(crate) fn adds_bos_by_default(&self) -> bool {
        self.splitter.adds_bos()
    }

    /// Encodes one stretch of text without special tokens. A byte that has no token is left out.
    pub(crate) fn encode(&self, text: &str, merger: &mut Merger, out: &mut Vec<TokenId>) {
        self.splitter.split(text, |word| {
            if let Some(&id) = self.whole_words.get(word.as_bytes()) {
                out.push(id);
                return;
            }
            merger.clear();
            for byte in word.bytes() {
                merger.push(1, self.bytes[usize::from(byte)]);
            }
            merger.run(|left, right| self.merges.get(&(left.id?, right.id?)).copied());
            out.extend(merger.symbols().filter_map(|symbol| symbol.id));
        });
    }
}

/// `left right`; the first character may itself be a space.
fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let at = first + merge[first..].find(' ')?;
    let (left, right) = (&merge[..at], &merge[at + 1..]);
    (!right.is_empty()).then_some((left, right))
}
