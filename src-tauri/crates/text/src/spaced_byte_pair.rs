//! The `gemma4` kind of vocabulary: the characters of a whole line merged by a list of pairs, with U+2581 for a space.

use std::collections::HashMap;

use crate::encoding::{EncodeError, Encoding};
use crate::merge_table::MergeTable;
use crate::seams::Seams;
use crate::vocabulary::{SPACE, Vocabulary, byte_of_name};
use crate::{TextError, TextMetadata, TokenId};

/// A BPE vocabulary over characters, ready to encode.
#[derive(Debug)]
pub(crate) struct SpacedBytePair {
    chars: HashMap<char, TokenId>,
    /// What a character without a token is written with.
    bytes: Box<[Option<TokenId>; 256]>,
    merges: MergeTable,
    /// How many line breaks a token is, to that token; filled only where a run of them that is a token is taken whole.
    line_breaks: HashMap<usize, TokenId>,
    /// Which characters the merges join.
    seams: Seams,
    longest_token: usize,
    /// Whether every byte has a token.
    is_complete: bool,
}

impl SpacedBytePair {
    pub(crate) fn new(
        meta: &TextMetadata,
        vocabulary: &Vocabulary,
        takes_line_breaks_whole: bool,
    ) -> Result<SpacedBytePair, TextError> {
        let mut ids: HashMap<&str, TokenId> = HashMap::with_capacity(meta.tokens.len());
        let mut this = SpacedBytePair {
            chars: HashMap::new(),
            bytes: Box::new([None; 256]),
            merges: MergeTable::default(),
            line_breaks: HashMap::new(),
            seams: Seams::new(),
            longest_token: 1,
            is_complete: false,
        };
        for (id, text) in (0..).zip(&meta.tokens) {
            let mut chars = text.chars();
            let Some(first) = chars.next().filter(|_| vocabulary.is_reachable_by_merging(id)) else {
                continue;
            };
            ids.insert(text, id);
            if chars.next().is_none() {
                this.chars.insert(first, id);
            }
            if let Some(byte) = byte_of_name(text) {
                this.bytes[usize::from(byte)] = Some(id);
            }
            if takes_line_breaks_whole && text.chars().all(|c| c == '\n') {
                this.line_breaks.insert(text.len(), id);
            }
            this.longest_token = this.longest_token.max(text.len());
        }
        this.is_complete = this.bytes.iter().all(Option::is_some);
        this.merges = MergeTable::new(&meta.merges, &ids, |left, right| {
            if let (Some(left), Some(right)) = (left.chars().next_back(), right.chars().next()) {
                this.seams.join(left.into(), right.into());
            }
        })?;
        Ok(this)
    }

    /// Bytes that one token stands for at most.
    pub(crate) fn longest_token(&self) -> usize {
        self.longest_token
    }

    /// Bytes of a text that become tokens, or fewer where that takes long to say.
    pub(crate) fn n_encodable(&self, text: &str) -> usize {
        if self.is_complete { text.len() } else { 0 }
    }

    /// Encodes one stretch of text without special tokens. A byte that has no token is left out.
    pub(crate) fn encode(&self, text: &str, encoding: &mut Encoding<'_>) -> Result<(), EncodeError> {
        let mut left = text;
        while let Some(first) = left.bytes().next() {
            let is_breaks = first == b'\n';
            let n = left.bytes().position(|byte| (byte == b'\n') != is_breaks).unwrap_or(left.len());
            let line;
            (line, left) = left.split_at(n);
            if let Some(&id) = self.line_breaks.get(&n).filter(|_| is_breaks) {
                encoding.ids.push(id);
                encoding.go_on(n)?;
                continue;
            }
            let spaced = line.chars().map(|c| if c == ' ' { SPACE } else { c });
            self.seams.pieces(spaced, |piece| {
                self.merge(piece, encoding);
                encoding.go_on(piece.len())
            })?;
        }
        Ok(())
    }

    fn merge(&self, piece: &str, Encoding { merger, ids, .. }: &mut Encoding<'_>) {
        merger.clear();
        for c in piece.chars() {
            merger.push(c.len_utf8(), self.chars.get(&c).copied());
        }
        merger.run(|left, right| self.merges.get(left.id()?, right.id()?));
        for symbol in merger.symbols() {
            match symbol.id() {
                Some(id) => ids.push(id),
                None => ids.extend(
                    piece.as_bytes()[symbol.range()].iter().filter_map(|&byte| self.bytes[usize::from(byte)]),
                ),
            }
        }
    }
}
