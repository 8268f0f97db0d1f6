//! Digests of a growing sequence of tokens: by the last one it is found again exactly, by the others it is told how
//! much two sequences have in common.

use crate::ids::TokenId;

/// Tokens from one mark to the next.
const MARK_TOKENS: usize = 64;

/// The address of an exact token sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnswerKey([u8; 32]);

/// The tokens of a prompt so far, as digests.
#[derive(Debug, Clone)]
pub struct PrefixTrail {
    hasher: blake3::Hasher,
    n_tokens: usize,
    /// A digest of all tokens up to every 64th.
    marks: Vec<u64>,
}

impl PrefixTrail {
    /// Of no tokens, for one model; `salt` is its fingerprint.
    pub fn new(salt: [u8; 32]) -> PrefixTrail {
        PrefixTrail { hasher: blake3::Hasher::new_keyed(&salt), n_tokens: 0, marks: Vec::new() }
    }

    /// Of these tokens.
    pub fn of(salt: [u8; 32], tokens: &[TokenId]) -> PrefixTrail {
        let mut trail = PrefixTrail::new(salt);
        trail.push(tokens);
        trail
    }

    /// Go on with `tokens`.
    pub fn push(&mut self, tokens: &[TokenId]) {
        let mut rest = tokens;
        while !rest.is_empty() {
            let n = rest.len().min(MARK_TOKENS - self.n_tokens % MARK_TOKENS);
            for token in &rest[..n] {
                self.hasher.update(&token.to_le_bytes());
            }
            self.n_tokens += n;
            if self.n_tokens.is_multiple_of(MARK_TOKENS) {
                let [a, b, c, d, e, f, g, h, ..] = *self.hasher.finalize().as_bytes();
                self.marks.push(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            }
            rest = &rest[n..];
        }
    }

    /// The address of what follows exactly these tokens.
    pub fn key(&self) -> AnswerKey {
        AnswerKey(self.hasher.finalize().into())
    }

    /// What [`PrefixTrail::n_common`] compares.
    pub fn marks(&self) -> &[u64] {
        &self.marks
    }

    /// How many marks these tokens have in common with others, from the first one on.
    pub fn n_common(&self, marks: &[u64]) -> usize {
        // Each mark is of all tokens before it: what comes after a difference differs too.
        let n = self.marks.len().min(marks.len());
        let (mut low, mut high) = (0, n);
        while low < high {
            let middle = low.midpoint(high);
            if self.marks[middle] == marks[middle] { low = middle + 1 } else { high = middle }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_does_not_depend_on_how_its_tokens_came() {
        let tokens: Vec<TokenId> = (0..300).collect();
        let whole = PrefixTrail::of([1; 32], &tokens);
        let mut pieces = PrefixTrail::new([1; 32]);
        for piece in tokens.chunks(37) {
            pieces.push(piece);
        }
        assert_eq!((whole.key(), whole.marks()), (pieces.key(), pieces.marks()));
        assert_eq!(whole.marks().len(), 300 / 64);
        assert_ne!(PrefixTrail::of([2; 32], &tokens).key(), whole.key());
    }

    #[test]
    fn what_two_have_in_common_ends_before_the_first_difference() {
        let tokens: Vec<TokenId> = (0..640).collect();
        let whole = PrefixTrail::of([1; 32], &tokens);
        for (at, n) in [(0, 0), (63, 0), (64, 1), (200, 3), (639, 9)] {
            let mut other = tokens.clone();
            other[at] = 9999;
            assert_eq!(whole.n_common(PrefixTrail::of([1; 32], &other).marks()), n, "{at}");
        }
        assert_eq!(whole.n_common(PrefixTrail::of([1; 32], &tokens[..130]).marks()), 2);
        assert_eq!(whole.n_common(&[]), 0);
    }
}
