//! Joining neighbouring symbols, best pair first: the loop that both kinds of vocabulary share.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::TokenId;

/// A run of text that is one token, or one character that has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    /// Byte offset in the text that is being merged.
    pub(crate) start: usize,
    /// Bytes; 0 once the symbol to the left has taken this one in.
    pub(crate) len: usize,
    pub(crate) id: Option<TokenId>,
    prev: Option<usize>,
    next: Option<usize>,
}

/// A pair of neighbours that together are a token.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    rank: u32,
    left: usize,
    right: usize,
    /// Bytes of both when the pair was seen; another sum means that one of them has changed since.
    len: usize,
    id: TokenId,
}

impl Ord for Candidate {
    /// The heap's greatest is the best: lowest rank, then leftmost.
    fn cmp(&self, other: &Candidate) -> Ordering {
        (other.rank, other.left).cmp(&(self.rank, self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Symbols and work queue, kept between words so that a word costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Candidate>,
}

impl Merger {
    /// Starts a new text.
    pub(crate) fn clear(&mut self) {
        self.symbols.clear();
        self.candidates.clear();
    }

    /// Adds the next `len` bytes of the text as a symbol.
    pub(crate) fn push(&mut self, len: usize, id: Option<TokenId>) {
        let i = self.symbols.len();
        let start = self.symbols.last().map_or(0, |last| last.start + last.len);
        if let Some(last) = self.symbols.last_mut() {
            last.next = Some(i);
        }
        self.symbols.push(Symbol { start, len, id, prev: i.checked_sub(1), next: None });
    }

    /// Joins pairs until none is left; `join` gives rank (the lowest goes first) and token of a pair.
    /// Costs O(n log n) for n symbols.
    pub(crate) fn run(&mut self, join: impl Fn(&Symbol, &Symbol) -> Option<(u32, TokenId)>) {
        for right in 1..self.symbols.len() {
            self.consider(Some(right - 1), Some(right), &join);
        }
        while let Some(Candidate { left, right, len, id, .. }) = self.candidates.pop() {
            let (l, r) = (self.symbols[left], self.symbols[right]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue;
            }
            self.symbols[left] = Symbol { len, id: Some(id), next: r.next, ..l };
            self.symbols[right].len = 0;
            if let Some(next) = r.next {
                self.symbols[next].prev = Some(left);
            }
            self.consider(l.prev, Some(left), &join);
            self.consider(Some(left), r.next, &join);
        }
    }

    fn consider(
        &mut self,
        left: Option<usize>,
        right: Option<usize>,
        join: &impl Fn(&Symbol, &Symbol) -> Option<(u32, TokenId)>,
    ) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (l, r) = (&self.symbols[left], &self.symbols[right]);
        if let Some((rank, id)) = join(l, r) {
            self.candidates.push(Candidate { rank, left, right, len: l.len + r.len, id });
        }
    }

    /// What is left, in text order.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| symbol.len > 0)
    }
}
