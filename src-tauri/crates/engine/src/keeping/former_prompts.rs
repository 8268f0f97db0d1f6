//! What the last sequences were, token by token: so that it can be said of a prompt where it differs from them.

use std::collections::VecDeque;

use scheduler::TokenId;

/// Sequences that are remembered; those that ended longest ago go first.
const MAX_SEQUENCES: usize = 64;
/// Tokens of all of them.
const MAX_TOKENS: usize = 2 << 20;

/// The last sequences of one model.
#[derive(Debug, Default)]
pub(crate) struct FormerPrompts {
    sequences: VecDeque<Box<[TokenId]>>,
    n_tokens: usize,
}

/// The sequence that a prompt has most in common with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Former {
    /// Leading tokens that both have.
    pub(crate) n_common: usize,
    /// Tokens of the former one.
    pub(crate) n_tokens: usize,
}

impl FormerPrompts {
    /// Remember a sequence that has ended, in place of those that it goes on with.
    pub(crate) fn push(&mut self, tokens: &[TokenId]) {
        if tokens.is_empty() || tokens.len() > MAX_TOKENS {
            return;
        }
        self.sequences.retain(|before| !tokens.starts_with(before));
        self.sequences.push_back(tokens.into());
        self.n_tokens = self.sequences.iter().map(|tokens| tokens.len()).sum();
        while self.sequences.len() > MAX_SEQUENCES || self.n_tokens > MAX_TOKENS {
            self.n_tokens -= self.sequences.pop_front().map_or(0, |oldest| oldest.len());
        }
    }

    /// The one that `prompt` has most in common with, the last one of several.
    pub(crate) fn find(&self, prompt: &[TokenId]) -> Former {
        let of = |tokens: &[TokenId]| Former {
            n_common: tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count(),
            n_tokens: tokens.len(),
        };
        let formers = self.sequences.iter().map(|tokens| of(tokens));
        formers.max_by_key(|former| former.n_common).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_with_most_in_common_is_found_and_one_that_goes_on_takes_its_place() {
        let mut former = FormerPrompts::default();
        former.push(&[1, 2, 3]);
        former.push(&[1, 2, 3, 4, 5]);
        former.push(&[1, 9]);
        assert_eq!(former.sequences.len(), 2);
        assert_eq!(former.find(&[1, 2, 3, 4, 7]), Former { n_common: 4, n_tokens: 5 });
        assert_eq!(former.find(&[1, 9, 9]), Former { n_common: 2, n_tokens: 2 });
        assert_eq!(former.find(&[7]).n_common, 0);
        assert_eq!(FormerPrompts::default().find(&[7]), Former::default());
    }

    #[test]
    fn neither_too_many_nor_too_long_ones_are_remembered() {
        let mut former = FormerPrompts::default();
        for n in 0..3 * MAX_SEQUENCES as TokenId {
            former.push(&[n; 100]);
        }
        assert_eq!((former.sequences.len(), former.n_tokens), (MAX_SEQUENCES, 100 * MAX_SEQUENCES));
        former.push(&vec![5; MAX_TOKENS]);
        assert_eq!((former.sequences.len(), former.n_tokens), (1, MAX_TOKENS));
        former.push(&vec![5; MAX_TOKENS + 1]);
        assert_eq!(former.sequences.len(), 1);
    }
}
