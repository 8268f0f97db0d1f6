//! Looking for markers in a text that is still coming.

/// What stands at the start of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// The marker.
    Yes,
    /// Something else.
    No,
    /// A beginning of it, and then the text ends so far.
    Maybe,
}

/// Whether `text` begins with `marker`; an empty one stands everywhere.
pub(crate) fn begins(text: &str, marker: &str) -> Match {
    if text.starts_with(marker) {
        Match::Yes
    } else if marker.starts_with(text) {
        Match::Maybe
    } else {
        Match::No
    }
}

/// Where the first of some markers is, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// This one, here.
    At { at: usize, marker: usize },
    /// A beginning of one is the text's end so far.
    MaybeAt(usize),
    /// Nowhere.
    No,
}

/// Finds the first place of one of the markers, the longest of those that begin there; empty ones are none.
pub(crate) fn find(text: &str, markers: &[&str]) -> Found {
    let mut firsts = [false; 256];
    for marker in markers {
        if let Some(first) = marker.bytes().next() {
            firsts[usize::from(first)] = true;
        }
    }
    for (at, byte) in text.bytes().enumerate() {
        if !firsts[usize::from(byte)] || !text.is_char_boundary(at) {
            continue;
        }
        let rest = &text[at..];
        let mut longest: Option<usize> = None;
        let mut may_be = false;
        for (i, marker) in markers.iter().enumerate().filter(|(_, marker)| !marker.is_empty()) {
            match begins(rest, marker) {
                Match::Yes if longest.is_none_or(|best| markers[best].len() < marker.len()) => {
                    longest = Some(i);
                }
                Match::Maybe => may_be = true,
                Match::Yes | Match::No => {}
            }
        }
        match longest {
            _ if may_be => return Found::MaybeAt(at),
            Some(marker) => return Found::At { at, marker },
            None => {}
        }
    }
    Found::No
}

/// The first `n` bytes of a text, or a few less where a character would be cut: what is looked for further on would be
/// looked for again and again.
pub(crate) fn head(text: &str, n: usize) -> &str {
    &text[..text.floor_char_boundary(n)]
}

/// White space as it stands between markers.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\n' | '\r' | '\t')
}

/// Bytes of the white space that `text` begins with.
pub(crate) fn leading_space(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_space).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_or_may_yet_come() {
        assert_eq!(find("ab<x>", &["<x>"]), Found::At { at: 2, marker: 0 });
        assert_eq!(find("ab<x", &["<x>"]), Found::MaybeAt(2));
        assert_eq!(find("ab<y", &["<x>", ""]), Found::No);
        assert_eq!(find("é<x>", &["<x>"]), Found::At { at: 2, marker: 0 });
        assert_eq!(find("<x", &["<x", "<x>"]), Found::MaybeAt(0), "the longer one may come");
        assert_eq!(find("<x>", &["<x", "<x>"]), Found::At { at: 0, marker: 1 });
        assert_eq!(find("<xy", &["<x", "<x>"]), Found::At { at: 0, marker: 0 });
    }
}
