//! The course that an answer takes between being free and being held to a grammar.
//!
//! ```text
//! thoughts ──</think>──▶ held: a document                        a schema after thoughts
//! free ──<tool_call>──▶ held: the rest of a call ──its end──▶ free      calls that are held from where they begin
//! ```

use llguidance::Matcher;

use crate::TokenId;

/// A stretch of an answer.
pub(crate) enum Stretch {
    /// Anything, until one of the markers.
    Free {
        /// Each with the stretch that it leads to.
        markers: Vec<(String, usize)>,
        /// Whether the answer may end in it.
        may_end: bool,
    },
    /// What the grammar allows.
    Held {
        /// Before its first token.
        matcher: Box<Matcher>,
        /// What follows it; the answer's end, if nothing does.
        then: Option<usize>,
        /// A token that may come in place of its first one, and the stretch that it leads to.
        instead: Option<(TokenId, usize)>,
    },
}

/// Finds the first marker in a text that comes in pieces.
#[derive(Debug, Clone, Default)]
pub(crate) struct MarkerWatch {
    /// The end of the text, as long as it may be the beginning of a marker.
    tail: Vec<u8>,
}

impl MarkerWatch {
    /// Takes the next piece. Gives the stretch of the first marker that is complete, and what follows it.
    pub(crate) fn push(&mut self, bytes: &[u8], markers: &[(String, usize)]) -> Option<(usize, Vec<u8>)> {
        self.tail.extend_from_slice(bytes);
        let found = markers.iter().filter_map(|(marker, to)| {
            let at = self.tail.windows(marker.len().max(1)).position(|window| window == marker.as_bytes())?;
            Some((at + marker.len(), *to))
        });
        if let Some((end, to)) = found.min() {
            let rest = self.tail.split_off(end);
            self.tail.clear();
            return Some((to, rest));
        }
        let longest = markers.iter().map(|(marker, _)| marker.len()).max().unwrap_or(0);
        let n_over = (self.tail.len() + 1).saturating_sub(longest.max(1));
        self.tail.drain(..n_over.min(self.tail.len()));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_though_it_comes_in_pieces_and_what_follows_it_is_kept() {
        let markers = [("<call>".to_owned(), 1), ("</x>".to_owned(), 2)];
        let mut watch = MarkerWatch::default();
        for piece in ["a <", "ca", "<ca", "l"] {
            assert_eq!(watch.push(piece.as_bytes(), &markers), None, "{piece}");
        }
        assert_eq!(watch.push(b"l>\n{", &markers), Some((1, b"\n{".to_vec())));
        assert_eq!(watch.push(b"</x></x>", &markers), Some((2, b"</x>".to_vec())));
    }
}
