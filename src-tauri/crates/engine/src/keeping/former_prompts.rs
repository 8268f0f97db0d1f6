//! What the last sequences were, token by token: so that it can be said of a prompt where it differs from them.

use std::collections::VecDeque;

use scheduler::TokenId;

use crate::told::difference::DifferenceReason;

/// Sequences that are remembered; those that ended longest ago go first.
const MAX_SEQUENCES: usize = 64;
/// Tokens of all of them.
const MAX_TOKENS: usize = 2 << 20;
/// Tokens by which a change may bring a prompt back further than to itself: a model with windows goes back to the last
/// one that is kept, and a prefix of which nothing is in memory to the last whole block.
const MAX_TOKENS_BACK: usize = 1024 + 256;

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

/// How much of a prompt was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Leading tokens that need not be computed.
    pub(crate) n_reused: usize,
    /// Tokens behind these whose KV was there, but for the state that recurrent layers have at their end.
    pub(crate) n_without_state: usize,
}

/// The first token of a prompt that nothing of it was there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirstNew {
    /// Why it was not.
    pub(crate) why: DifferenceReason,
    /// Which one, or, where the prompt differs from the former one a little after it, the first that does.
    pub(crate) at: usize,
    /// Tokens that would have been there too, had the prompt gone on as the former one.
    pub(crate) n_missed: usize,
}

impl Former {
    /// Of a prompt of `n_prompt` tokens, of which so much was there.
    pub(crate) fn first_new(self, n_prompt: usize, found: Found) -> FirstNew {
        let Former { n_common, n_tokens } = self;
        let Found { n_reused, n_without_state } = found;
        let first_new = |why, at, n_missed| FirstNew { why, at, n_missed };
        if n_without_state > 0 {
            return first_new(DifferenceReason::NoCheckpoint, n_reused, n_without_state);
        }
        let is_another = n_common < n_tokens && n_common < n_prompt;
        if is_another && n_common > 0 && (n_reused..=n_reused + MAX_TOKENS_BACK).contains(&n_common) {
            let n_missed = n_tokens.min(n_prompt).saturating_sub(n_reused);
            return first_new(DifferenceReason::Changed, n_common, n_missed);
        }
        if n_reused < n_common {
            return first_new(DifferenceReason::NotKept, n_reused, n_common - n_reused);
        }
        // What was there goes further than what is remembered of it.
        let why = if n_reused > 0 { DifferenceReason::GoesOn } else { DifferenceReason::New };
        first_new(why, n_reused, 0)
    }
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
    fn why_a_token_is_new_is_told_by_what_was_there_and_what_was_said() {
        use DifferenceReason::{Changed, GoesOn, New, NotKept};
        for (former, n_prompt, n_reused, want) in [
            // (in common, of so many), of the prompt, of those there
            ((0, 0), 500, 0, (New, 0, 0)),
            ((0, 90), 500, 0, (New, 0, 0)),
            ((400, 400), 500, 400, (GoesOn, 400, 0)),
            ((400, 400), 500, 320, (NotKept, 320, 80)),
            ((400, 400), 500, 0, (NotKept, 0, 400)),
            ((500, 600), 500, 300, (NotKept, 300, 200)),
            ((400, 450), 500, 400, (Changed, 400, 50)),
            ((400, 900), 500, 400, (Changed, 400, 100)),
            // A window brings it back, and memory that is gone further.
            ((1400, 1500), 1800, 1024, (Changed, 1400, 476)),
            ((4000, 4100), 5000, 1024, (NotKept, 1024, 2976)),
            // More was there than anybody remembers to have said.
            ((0, 0), 500, 480, (GoesOn, 480, 0)),
            ((10, 90), 500, 480, (GoesOn, 480, 0)),
        ] {
            let former = Former { n_common: former.0, n_tokens: former.1 };
            let found = Found { n_reused, n_without_state: 0 };
            let FirstNew { why, at, n_missed } = former.first_new(n_prompt, found);
            assert_eq!((why, at, n_missed), want, "{former:?} {n_prompt} {n_reused}");
        }
    }

    #[test]
    fn what_is_there_but_for_a_state_is_told_apart_from_what_is_gone() {
        let former = Former { n_common: 400, n_tokens: 450 };
        let found = Found { n_reused: 128, n_without_state: 256 };
        let FirstNew { why, at, n_missed } = former.first_new(500, found);
        assert_eq!((why, at, n_missed), (DifferenceReason::NoCheckpoint, 128, 256));
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
