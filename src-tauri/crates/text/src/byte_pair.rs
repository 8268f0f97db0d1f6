//! The `gpt2` kind of vocabulary: text cut into words, the bytes of a word merged by a list of pairs.

use std::collections::HashMap;

use crate::encoding::{EncodeError, Encoding};
use crate::merge::Symbol;
use crate::merge_table::MergeTable;
use crate::pre_tokenizer::PreTokenizer;
use crate::seams::Seams;
use crate::vocabulary::{Vocabulary, byte_level};
use crate::{TextError, TextMetadata, TokenId};

/// Words up to here are merged whole.
const SHORT_WORD_BYTES: usize = 64;

/// A byte-level BPE vocabulary, ready to encode.
#[derive(Debug)]
pub(crate) struct BytePair {
    splitter: PreTokenizer,
    bytes: Box<[Option<TokenId>; 256]>,
    merges: MergeTable,
    /// Bytes of a token to its id; filled only where a word that is a token is taken whole.
    whole_words: HashMap<Box<[u8]>, TokenId>,
    /// Which bytes the merges join.
    seams: Seams,
    longest_token: usize,
    /// Whether every byte of UTF-8 has a token.
    is_complete: bool,
}

impl BytePair {
    pub(crate) fn new(
        meta: &TextMetadata,
        vocabulary: &Vocabulary,
        splitter: PreTokenizer,
        takes_whole_words: bool,
    ) -> Result<BytePair, TextError> {
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
        let mut seams = Seams::new();
        let merges = MergeTable::new(&meta.merges, &ids, |left, right| {
            if let (Some(&left), Some(&right)) =
                (byte_level::decode(left).last(), byte_level::decode(right).first())
            {
                seams.join(left.into(), right.into());
            }
        })?;
        let whole_words = if takes_whole_words {
            ids.iter().map(|(text, &id)| (byte_level::decode(text).into(), id)).collect()
        } else {
            HashMap::new()
        };
        let is_complete = (0..=u8::MAX).zip(&*bytes).all(|(byte, id)| id.is_some() || !is_of_text(byte));
        let longest_token = ids.keys().map(|text| byte_level::decode(text).len()).max().unwrap_or(1);
        Ok(BytePair { splitter, bytes, merges, whole_words, seams, longest_token, is_complete })
    }

    /// Bytes that one token stands for at most.
    pub(crate) fn longest_token(&self) -> usize {
        self.longest_token
    }

    /// Bytes of a text that become tokens: vocabularies that were cut down lack bytes that their text never had.
    pub(crate) fn n_encodable(&self, text: &str) -> usize {
        if self.is_complete {
            return text.len();
        }
        text.bytes().filter(|byte| self.bytes[usize::from(*byte)].is_some()).count()
    }

    /// Encodes one stretch of text without special tokens. A byte that has no token is left out.
    pub(crate) fn encode(&self, text: &str, encoding: &mut Encoding<'_>) -> Result<(), EncodeError> {
        self.splitter.split(text, |word| {
            if let Some(&id) = self.whole_words.get(word.as_bytes()) {
                encoding.ids.push(id);
                return encoding.go_on(word.len());
            }
            let mut left = word.as_bytes();
            while !left.is_empty() {
                // Ordinary words are shorter than the search for a seam is worth.
                let n =
                    if left.len() <= SHORT_WORD_BYTES { left.len() } else { self.seams.first_piece(left) };
                let piece;
                (piece, left) = left.split_at(n);
                self.merge(piece, encoding);
                encoding.go_on(n)?;
            }
            Ok(())
        })
    }

    fn merge(&self, piece: &[u8], Encoding { merger, ids, .. }: &mut Encoding<'_>) {
        merger.clear();
        for byte in piece {
            merger.push(1, self.bytes[usize::from(*byte)]);
        }
        merger.run(|left, right| self.merges.get(left.id()?, right.id()?));
        ids.extend(merger.symbols().filter_map(Symbol::id));
    }
}

/// Whether UTF-8 has this byte.
fn is_of_text(byte: u8) -> bool {
    !matches!(byte, 0xc0 | 0xc1 | 0xf5..)
}
