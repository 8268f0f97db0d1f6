//! The pairs that a byte-pair vocabulary merges, by rank.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::{TextError, TokenId};

/// A pair of tokens to (rank, the token they form).
#[derive(Debug, Default)]
pub(crate) struct MergeTable(HashMap<(TokenId, TokenId), (u32, TokenId), RandomState>);

impl MergeTable {
    /// Reads the list; `joins` is told both texts of every pair.
    ///
    /// # Errors
    /// When there are none, or one is not a pair of tokens that together are one.
    pub(crate) fn new(
        merges: &[String],
        ids: &HashMap<&str, TokenId>,
        mut joins: impl FnMut(&str, &str),
    ) -> Result<MergeTable, TextError> {
        if merges.is_empty() {
            return Err(TextError::Vocabulary("it has no merges".into()));
        }
        let mut table = HashMap::with_capacity_and_hasher(merges.len(), RandomState::default());
        for (rank, merge) in (0..).zip(merges) {
            let (left, right) = split_merge(merge)
                .ok_or_else(|| TextError::Vocabulary(format!("merge {rank} is not a pair: {merge:?}")))?;
            let id = |text: &str| {
                ids.get(text).copied().ok_or_else(|| {
                    TextError::Vocabulary(format!("merge {rank} {merge:?} needs a token {text:?}"))
                })
            };
            let joined = id(&format!("{left}{right}"))?;
            table.entry((id(left)?, id(right)?)).or_insert((rank, joined));
            joins(left, right);
        }
        Ok(MergeTable(table))
    }

    /// Rank and token of a pair, if it is merged.
    pub(crate) fn get(&self, left: TokenId, right: TokenId) -> Option<(u32, TokenId)> {
        self.0.get(&(left, right)).copied()
    }
}

/// `left right`; the first character may itself be a space.
fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let at = first + merge[first..].find(' ')?;
    let (left, right) = (&merge[..at], &merge[at + 1..]);
    (!right.is_empty()).then_some((left, right))
}
