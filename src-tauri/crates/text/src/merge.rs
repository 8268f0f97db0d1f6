//! Joining neighbouring symbols, best pair first: the loop that both kinds of vocabulary share.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::TokenId;

/// No symbol and no token: there are fewer of both.
const NONE: u32 = u32::MAX;

/// A run of text that is one token, or one character that has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    start: u32,
    /// Bytes; 0 once the symbol to the left has taken this one in.
    len: u32,
    id: TokenId,
    prev: u32,
    next: u32,
}

impl Symbol {
    /// Byte offset in the text that is being merged.
    pub(crate) fn start(&self) -> usize {
        self.start as usize
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Bytes of the text that is being merged.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start()..self.start() + self.len()
    }

    pub(crate) fn id(&self) -> Option<TokenId> {
        (self.id != NONE).then_some(self.id)
    }
}

/// A pair of neighbours that together are a token; the least is the best: lowest rank, then leftmost.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    /// Bytes of both when the pair was seen; symbols only grow, so another sum means that one of them has changed.
    len: u32,
    id: TokenId,
}

/// Symbols and work queue, kept between words so that a word costs no allocation. Some 50 bytes a symbol.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Reverse<Candidate>>,
    /// Pairs that were looked at, in all.
    #[cfg(test)]
    n_considered: usize,
}

impl Merger {
    /// Starts a new text, which must be shorter than 4 GiB.
    pub(crate) fn clear(&mut self) {
        self.symbols.clear();
        self.candidates.clear();
    }

    /// Adds the next `len` bytes of the text as a symbol.
    pub(crate) fn push(&mut self, len: usize, id: Option<TokenId>) {
        let i = self.symbols.len() as u32;
        let (mut start, mut prev) = (0, NONE);
        if let Some(last) = self.symbols.last_mut() {
            last.next = i;
            (start, prev) = (last.start + last.len, i - 1);
        }
        self.symbols.push(Symbol { start, len: len as u32, id: id.unwrap_or(NONE), prev, next: NONE });
    }

    /// Joins pairs until none is left; `join` gives rank (the lowest goes first) and token of a pair.
    /// Costs O(n log n) for n symbols.
    pub(crate) fn run(&mut self, join: impl Fn(&Symbol, &Symbol) -> Option<(u32, TokenId)>) {
        for left in 1..self.symbols.len() {
            self.consider(left as u32 - 1, left as u32, &join);
        }
        while let Some(Reverse(Candidate { left, len, id, .. })) = self.candidates.pop() {
            let l = self.symbols[left as usize];
            if l.len == 0 || l.next == NONE {
                continue;
            }
            let right = l.next;
            let r = self.symbols[right as usize];
            if l.len + r.len != len {
                continue;
            }
            self.symbols[left as usize] = Symbol { len, id, next: r.next, ..l };
            self.symbols[right as usize].len = 0;
            if r.next != NONE {
                self.symbols[r.next as usize].prev = left;
            }
            self.consider(l.prev, left, &join);
            self.consider(left, r.next, &join);
        }
    }

    fn consider(
        &mut self,
        left: u32,
        right: u32,
        join: &impl Fn(&Symbol, &Symbol) -> Option<(u32, TokenId)>,
    ) {
        if left == NONE || right == NONE {
            return;
        }
        #[cfg(test)]
        {
            self.n_considered += 1;
        }
        let (l, r) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        if let Some((rank, id)) = join(l, r) {
            self.candidates.push(Reverse(Candidate { rank, left, len: l.len + r.len, id }));
        }
    }

    /// What is left, in text order.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| symbol.len > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::Merger;

    /// Merges `n` symbols, each pair by `join`, and says how many pairs were looked at.
    fn n_considered(n: u32, join: impl Fn(u32, u32) -> Option<(u32, u32)>) -> usize {
        let mut merger = Merger::default();
        (0..n).for_each(|id| merger.push(1, Some(id % 7)));
        merger.run(|left, right| join(left.id()?, right.id()?));
        let n_bytes: usize = merger.symbols().map(super::Symbol::len).sum();
        assert_eq!(n_bytes, n as usize, "nothing is lost");
        merger.n_considered
    }

    #[test]
    fn no_pairs_are_looked_at_but_neighbours_and_those_of_what_is_joined() {
        for n in [1, 2, 3, 1_000, 250_000] {
            let most = 3 * n as usize;
            // Everything is joined: from the left, from the right, and in a tangle.
            assert!(n_considered(n, |_, _| Some((0, 1))) <= most);
            assert!(n_considered(n, |left, _| Some((7 - left.min(7), 1))) <= most);
            assert!(
                n_considered(n, |left, right| Some(((left * 31 + right * 17) % 256, (left + right) % 7)))
                    <= most
            );
            // Nothing, or every other pair, is.
            assert!(n_considered(n, |_, _| None) <= most);
            assert!(n_considered(n, |left, right| (left % 2 == right % 2).then_some((left, right))) <= most);
        }
    }
}
