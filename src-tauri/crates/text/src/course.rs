//! The course that an answer takes between being free and being held to a grammar.
//!
//! ```text
//! thoughts ──</think>──▶ held: a document                        a schema after thoughts
//! free ──<tool_call>──▶ held: the rest of a call ──its end──▶ free      calls that are held from where they begin
//! thoughts ──so many tokens──▶ said: </think> ──▶ free or held          thoughts that may not be longer
//! ```

use llguidance::Matcher;

use crate::TokenId;
use crate::answer_reader::{MAX_HELD_SPACE, is_space};

/// A stretch of an answer.
pub(crate) enum Stretch {
    /// Anything, until one of the markers.
    Free {
        markers: Vec<Marker>,
        /// Whether the answer may end in it.
        may_end: bool,
        /// How long it may be, where that is bounded.
        bound: Option<Bound>,
    },
    /// This token, and nothing else.
    Said {
        token: TokenId,
        /// What follows it.
        then: usize,
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

/// A stretch of another answer: what its grammar is matched with is its own.
impl Clone for Stretch {
    fn clone(&self) -> Stretch {
        match self {
            Stretch::Free { markers, may_end, bound } => {
                Stretch::Free { markers: markers.clone(), may_end: *may_end, bound: *bound }
            }
            Stretch::Said { token, then } => Stretch::Said { token: *token, then: *then },
            Stretch::Held { matcher, then, instead } => {
                Stretch::Held { matcher: Box::new(matcher.deep_clone()), then: *then, instead: *instead }
            }
        }
    }
}

/// How long the stretches of an answer that have it may be, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) n_tokens: usize,
    /// The stretch that comes then.
    pub(crate) then: usize,
}

/// What ends a stretch that is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) text: String,
    /// The stretch that it leads to.
    pub(crate) to: usize,
    pub(crate) place: Place,
}

/// Where a marker is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Anywhere,
    /// Before anything but white space; elsewhere it is text.
    First,
}

/// Finds the first marker in a text that comes in pieces.
#[derive(Debug, Clone, Default)]
pub(crate) struct MarkerWatch {
    /// The end of the text, as long as it may be the beginning of a marker.
    tail: Vec<u8>,
    /// What stood before that.
    before: Before,
}

/// What stands before a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// So many bytes of white space, and no more than may stand before what comes first.
    Space(usize),
    Text,
}

impl Default for Before {
    fn default() -> Before {
        Before::Space(0)
    }
}

impl Before {
    fn and(self, bytes: &[u8]) -> Before {
        match self {
            Before::Space(n) if bytes.iter().all(|&byte| is_space(char::from(byte))) => {
                let n = n + bytes.len();
                if n <= MAX_HELD_SPACE { Before::Space(n) } else { Before::Text }
            }
            _ => Before::Text,
        }
    }
}

impl MarkerWatch {
    /// Takes the next piece. Gives the stretch of the first marker that is complete, and what follows it.
    pub(crate) fn push(&mut self, bytes: &[u8], markers: &[Marker]) -> Option<(usize, Vec<u8>)> {
        self.tail.extend_from_slice(bytes);
        let found = markers.iter().filter_map(|marker| {
            let text = marker.text.as_bytes();
            let at = self.tail.windows(text.len().max(1)).position(|window| window == text)?;
            let is_first = || self.before.and(&self.tail[..at]) != Before::Text;
            (marker.place == Place::Anywhere || is_first()).then_some((at + text.len(), marker.to))
        });
        if let Some((end, to)) = found.min() {
            let rest = self.tail.split_off(end);
            *self = MarkerWatch::default();
            return Some((to, rest));
        }
        let longest = markers.iter().map(|marker| marker.text.len()).max().unwrap_or(0);
        let n_over = (self.tail.len() + 1).saturating_sub(longest.max(1)).min(self.tail.len());
        self.before = self.before.and(&self.tail[..n_over]);
        self.tail.drain(..n_over);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(text: &str, to: usize, place: Place) -> Marker {
        Marker { text: text.to_owned(), to, place }
    }

    #[test]
    fn a_marker_that_must_come_first_is_text_elsewhere() {
        let markers = [marker("<think>", 1, Place::First), marker("<call>", 2, Place::Anywhere)];
        let find = |pieces: &[&str]| {
            let mut watch = MarkerWatch::default();
            pieces.iter().find_map(|piece| watch.push(piece.as_bytes(), &markers)).map(|(to, _)| to)
        };
        assert_eq!(find(&["<think>"]), Some(1));
        assert_eq!(find(&["\n \n", "\n          <thi", "nk>"]), Some(1));
        assert_eq!(find(&["Well, ", "<think>"]), None);
        assert_eq!(find(&["<think ", "<think>"]), None);
        assert_eq!(find(&["a<think>", "<call>"]), Some(2));
        assert_eq!(find(&[&" ".repeat(MAX_HELD_SPACE), "<think>"]), Some(1));
        assert_eq!(find(&[&" ".repeat(MAX_HELD_SPACE), " <think>"]), None);
    }

    #[test]
    fn a_marker_is_found_though_it_comes_in_pieces_and_what_follows_it_is_kept() {
        let markers = [marker("<call>", 1, Place::Anywhere), marker("</x>", 2, Place::Anywhere)];
        let mut watch = MarkerWatch::default();
        for piece in ["a <", "ca", "<ca", "l"] {
            assert_eq!(watch.push(piece.as_bytes(), &markers), None, "{piece}");
        }
        assert_eq!(watch.push(b"l>\n{", &markers), Some((1, b"\n{".to_vec())));
        assert_eq!(watch.push(b"</x></x>", &markers), Some((2, b"</x>".to_vec())));
    }
}
