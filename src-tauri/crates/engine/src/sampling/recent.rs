//! The last generated tokens of an answer, as penalties count them.

use std::collections::{BTreeMap, VecDeque};

use scheduler::TokenId;

/// The tokens of a window that moves with the answer, and how often each is in it.
#[derive(Debug)]
pub(super) struct Recent {
    /// How many tokens it holds.
    window: usize,
    order: VecDeque<TokenId>,
    /// Ordered, so that sums come out the same in every run; no count is 0.
    counts: BTreeMap<TokenId, u32>,
}

impl Recent {
    /// An empty window of this many tokens.
    pub(super) fn new(window: usize) -> Recent {
        Recent { window, order: VecDeque::new(), counts: BTreeMap::new() }
    }

    /// Let a token in, and the oldest one out where there is no room.
    pub(super) fn push(&mut self, token: TokenId) {
        self.order.push_back(token);
        *self.counts.entry(token).or_insert(0) += 1;
        if self.order.len() > self.window
            && let Some(oldest) = self.order.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Each token in it with its count.
    pub(super) fn counts(&self) -> impl Iterator<Item = (TokenId, u32)> + '_ {
        self.counts.iter().map(|(&token, &count)| (token, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in a window of `size` after these tokens, `token×count` a piece.
    fn check(size: usize, tokens: &[TokenId], want: &str) {
        let mut recent = Recent::new(size);
        tokens.iter().for_each(|&token| recent.push(token));
        let got: Vec<String> = recent.counts().map(|(token, count)| format!("{token}×{count}")).collect();
        assert_eq!(got.join(" "), want, "{size} {tokens:?}");
        assert_eq!(recent.is_empty(), want.is_empty());
    }

    #[test]
    fn a_token_counts_while_it_is_in_the_window() {
        check(3, &[], "");
        check(3, &[7, 5, 7], "5×1 7×2");
        check(3, &[7, 5, 7, 7], "5×1 7×2");
        check(3, &[7, 5, 7, 7, 7], "7×3");
        check(1, &[7, 5], "5×1");
        check(0, &[7, 5], "");
        check(usize::MAX, &[7, 5, 7], "5×1 7×2");
    }
}
