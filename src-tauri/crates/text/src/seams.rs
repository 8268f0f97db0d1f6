//! Where a text can be cut before merging so that the tokens are those of the whole.
//!
//! Merging joins neighbours that together are a token. Between two characters that stand side by side in no token
//! nothing is ever joined, so what lies left and what lies right of that place never touch each other's merges:
//! each can be merged alone, with memory for itself alone.

/// Bits of the table, as a power of two.
const LOG2_BITS: u32 = 22;

/// A piece without a seam is cut after this many bytes all the same, so that merging it takes bounded memory.
///
/// A run of letters, digits or spaces that is longer may get other tokens at such a cut than merging all of it would
/// give; they spell the same text. No word of a text that somebody wrote or generated comes near.
const MAX_PIECE_BYTES: usize = 256 << 10;

/// The pairs of neighbouring characters, or bytes, that a vocabulary joins.
///
/// A table of bits by hash: a pair that falls together with another is taken for one that is joined, which costs a
/// cut and no more.
#[derive(Debug)]
pub(crate) struct Seams(Box<[u64]>);

impl Seams {
    /// Of a vocabulary that joins nothing yet.
    pub(crate) fn new() -> Seams {
        Seams(vec![0; 1 << (LOG2_BITS - 6)].into())
    }

    /// Note that a token has `right` right after `left`.
    pub(crate) fn join(&mut self, left: u32, right: u32) {
        let (word, bit) = place(left, right);
        self.0[word] |= 1 << bit;
    }

    /// Whether a token may have `right` right after `left`; if not, there is a seam between the two.
    pub(crate) fn may_join(&self, left: u32, right: u32) -> bool {
        let (word, bit) = place(left, right);
        self.0[word] >> bit & 1 == 1
    }

    /// Calls `piece` for each stretch of these characters that can be merged alone, in order, until it fails.
    pub(crate) fn pieces<E>(
        &self,
        chars: impl Iterator<Item = char>,
        mut piece: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut whole = String::new();
        let mut last = None;
        for c in chars {
            let is_seam = last.is_some_and(|last: char| !self.may_join(last.into(), c.into()));
            if is_seam || whole.len() >= MAX_PIECE_BYTES {
                piece(&whole)?;
                whole.clear();
            }
            whole.push(c);
            last = Some(c);
        }
        if whole.is_empty() { Ok(()) } else { piece(&whole) }
    }

    /// How many bytes the first piece of these bytes has.
    pub(crate) fn first_piece(&self, bytes: &[u8]) -> usize {
        let most = bytes.len().min(MAX_PIECE_BYTES);
        let seam = (1..most).find(|&i| !self.may_join(bytes[i - 1].into(), bytes[i].into()));
        seam.unwrap_or(most)
    }
}

fn place(left: u32, right: u32) -> (usize, u32) {
    // Fibonacci hashing: the upper bits of the product depend on all of both.
    let hash = (u64::from(left) << 32 | u64::from(right)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let at = (hash >> (64 - LOG2_BITS)) as usize;
    (at >> 6, at as u32 & 63)
}
