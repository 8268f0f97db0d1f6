//! The `llama` kind of vocabulary: characters merged by the scores of the tokens they form.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::encoding::{EncodeError, Encoding};
use crate::seams::Seams;
use crate::vocabulary::{SPACE, Vocabulary, byte_of_name};
use crate::{TextError, TextMetadata, TokenId};

/// A SentencePiece vocabulary, ready to encode.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    /// Token text to (rank, id); a better score is a lower rank, equal scores are one rank.
    tokens: HashMap<Box<str>, (u32, TokenId), RandomState>,
    max_token_len: usize,
    bytes: Box<[Option<TokenId>; 256]>,
    unk: Option<TokenId>,
    add_space_prefix: bool,
    /// Which characters the tokens join.
    seams: Seams,
}

impl SentencePiece {
    pub(crate) fn new(meta: &TextMetadata, vocabulary: &Vocabulary) -> Result<SentencePiece, TextError> {
        let n = vocabulary.n_tokens();
        if meta.scores.len() < n {
            return Err(TextError::Vocabulary(format!("{} scores for {n} tokens", meta.scores.len())));
        }
        let ranks = ranks(&meta.scores[..n]);
        let mut this = SentencePiece {
            tokens: HashMap::with_capacity_and_hasher(n, RandomState::default()),
            max_token_len: 0,
            bytes: Box::new([None; 256]),
            unk: vocabulary.unk,
            add_space_prefix: meta.add_space_prefix.unwrap_or(true),
            seams: Seams::new(),
        };
        for (id, text) in (0..).zip(&meta.tokens) {
            if text.is_empty() || !vocabulary.is_reachable_by_merging(id) {
                continue;
            }
            if let Some(byte) = byte_of_name(text) {
                this.bytes[usize::from(byte)] = Some(id);
            }
            this.max_token_len = this.max_token_len.max(text.len());
            for (left, right) in text.chars().zip(text.chars().skip(1)) {
                this.seams.join(left.into(), right.into());
            }
            this.tokens.insert(text.as_str().into(), (ranks[id as usize], id));
        }
        for byte in 0..128u8 {
            let as_text = char::from(byte).to_string();
            let of_byte = &mut this.bytes[usize::from(byte)];
            *of_byte = of_byte.or(this.tokens.get(as_text.as_str()).map(|&(_, id)| id));
        }
        Ok(this)
    }

    /// Whether a space is put before a stretch of text that follows a special token or nothing.
    pub(crate) fn adds_space_prefix(&self) -> bool {
        self.add_space_prefix
    }

    /// Bytes that one token stands for at most.
    pub(crate) fn longest_token(&self) -> usize {
        self.max_token_len.max(1)
    }

    /// Bytes of a text that become tokens, or fewer where that takes long to say.
    pub(crate) fn n_encodable(&self, text: &str) -> usize {
        let is_complete = self.unk.is_some() || self.bytes.iter().all(Option::is_some);
        if is_complete { text.len() } else { 0 }
    }

    /// Encodes one stretch of text without special tokens.
    pub(crate) fn encode(&self, text: &str, encoding: &mut Encoding<'_>) -> Result<(), EncodeError> {
        let prefix = (self.add_space_prefix && encoding.after_special).then_some(SPACE);
        let spaced = text.chars().map(|c| if c == ' ' { SPACE } else { c });
        self.seams.pieces(prefix.into_iter().chain(spaced), |piece| {
            self.merge(piece, encoding);
            encoding.go_on(piece.len())
        })
    }

    fn merge(&self, piece: &str, Encoding { merger, ids, .. }: &mut Encoding<'_>) {
        merger.clear();
        for c in piece.chars() {
            let id = self.tokens.get(c.encode_utf8(&mut [0; 4]) as &str).map(|&(_, id)| id);
            merger.push(c.len_utf8(), id);
        }
        merger.run(|left, right| {
            let len = left.len() + right.len();
            if len > self.max_token_len {
                return None;
            }
            self.tokens.get(&piece[left.start()..left.start() + len]).copied()
        });
        for symbol in merger.symbols() {
            match symbol.id() {
                Some(id) => ids.push(id),
                None => ids.extend(
                    piece.as_bytes()[symbol.range()]
                        .iter()
                        .filter_map(|&byte| self.bytes[usize::from(byte)].or(self.unk)),
                ),
            }
        }
    }
}

/// The place of each score among the different scores, best first.
fn ranks(scores: &[f32]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut ranks = vec![0; scores.len()];
    let mut rank = 0;
    for pair in order.windows(2) {
        rank += u32::from(scores[pair[0]] != scores[pair[1]]);
        ranks[pair[1]] = rank;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::ranks;

    #[test]
    fn better_scores_rank_first_and_equal_scores_share_a_rank() {
        assert_eq!(ranks(&[-3.0, 0.0, -1.0, -0.0, -3.0]), [2, 0, 1, 0, 2]);
        assert_eq!(ranks(&[]), [0u32; 0]);
    }
}
