//! Stop strings: text is held back while it may still become one.

/// Watches generated text for stop strings. Which string stops, and where, does not depend on how the text is
/// cut into pieces: the one that is complete first, the longest if several are complete at once.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<Stop>,
    /// Text that is not emitted yet because some stop string may begin in it.
    held: String,
    stopped: bool,
}

/// What one piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOutcome {
    /// Text that may be shown.
    pub emit: String,
    /// Which stop string was completed, as its index; nothing from it on is ever emitted.
    pub stopped: Option<usize>,
}

/// One stop string and how much of it the text so far ends with (Knuth, Morris and Pratt).
#[derive(Debug, Clone)]
struct Stop {
    index: usize,
    bytes: Vec<u8>,
    /// For each length of a matched part, the length of the next shorter part that it also ends with.
    fallback: Vec<usize>,
    matched: usize,
}

impl StopMatcher {
    /// Watches for these strings; empty ones are ignored.
    pub fn new(stops: Vec<String>) -> StopMatcher {
        let stops = stops.into_iter().enumerate().filter(|(_, stop)| !stop.is_empty());
        StopMatcher {
            stops: stops.map(|(index, stop)| Stop::new(index, stop.into_bytes())).collect(),
            held: String::new(),
            stopped: false,
        }
    }

    /// Takes the next piece of text. After a stop, everything is swallowed.
    pub fn push(&mut self, text: &str) -> StopOutcome {
        if self.stopped {
            return StopOutcome { emit: String::new(), stopped: None };
        }
        let already_held = self.held.len();
        self.held.push_str(text);
        for (i, byte) in text.bytes().enumerate() {
            let mut completed: Option<&Stop> = None;
            for stop in &mut self.stops {
                stop.advance(byte);
                if stop.is_complete() && completed.is_none_or(|other| other.bytes.len() < stop.bytes.len()) {
                    completed = Some(stop);
                }
            }
            if let Some(stop) = completed {
                let start = already_held + i + 1 - stop.bytes.len();
                let index = stop.index;
                self.stopped = true;
                let mut emit = std::mem::take(&mut self.held);
                emit.truncate(start);
                return StopOutcome { emit, stopped: Some(index) };
            }
        }
        let n_hold = self.stops.iter().map(|stop| stop.matched).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - n_hold);
        StopOutcome { emit: std::mem::replace(&mut self.held, held), stopped: None }
    }

    /// The text that was held back, when generation ended without a stop string.
    pub fn flush(&mut self) -> String {
        self.stops.iter_mut().for_each(|stop| stop.matched = 0);
        std::mem::take(&mut self.held)
    }
}

impl Stop {
    fn new(index: usize, bytes: Vec<u8>) -> Stop {
        let mut fallback = vec![0; bytes.len() + 1];
        let mut len = 0;
        for i in 1..bytes.len() {
            while len > 0 && bytes[i] != bytes[len] {
                len = fallback[len];
            }
            len += usize::from(bytes[i] == bytes[len]);
            fallback[i + 1] = len;
        }
        Stop { index, bytes, fallback, matched: 0 }
    }

    fn advance(&mut self, byte: u8) {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.fallback[self.matched];
        }
        self.matched += usize::from(self.bytes[self.matched] == byte);
    }

    fn is_complete(&self) -> bool {
        self.matched == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{StopMatcher, StopOutcome};

    /// Runs the pieces and writes what each push emitted, `!n` for a stop, and what flush gave.
    fn trace(stops: &[&str], pieces: &[&str]) -> String {
        let mut matcher = StopMatcher::new(stops.iter().map(|&s| s.to_owned()).collect());
        let mut out = Vec::new();
        for piece in pieces {
            let StopOutcome { emit, stopped } = matcher.push(piece);
            out.push(stopped.map_or(emit.clone(), |n| format!("{emit}!{n}")));
        }
        out.push(matcher.flush());
        out.join("|")
    }

    #[test]
    fn nothing_from_a_stop_string_on_is_emitted() {
        assert_eq!(trace(&["END"], &["one ENDtwo", "three"]), "one !0||");
        assert_eq!(trace(&["\n\n", "User:"], &["Hi", "\n", "\nUser:"]), "Hi||!0|");
    }

    #[test]
    fn a_possible_beginning_is_held_until_it_is_decided() {
        assert_eq!(trace(&["<end>"], &["a<", "en", "x", "<e"]), "a||<enx||<e");
        assert_eq!(trace(&["aab"], &["aa", "a", "b"]), "|a|!0|");
        assert_eq!(trace(&["ababc"], &["ab", "ab", "ab", "c"]), "||ab|!0|");
    }

    #[test]
    fn the_stop_that_is_complete_first_wins_then_the_longer_one() {
        assert_eq!(trace(&["bc", "abcd"], &["abcd"]), "a!0|");
        assert_eq!(trace(&["c", "abc"], &["xabc"]), "x!1|");
    }

    #[test]
    fn characters_of_several_bytes_are_never_cut() {
        assert_eq!(trace(&["é!"], &["è", "é", "?"]), "è||é?|");
        assert_eq!(trace(&["👩"], &["👨", "👩"]), "👨|!0|");
    }

    #[test]
    fn empty_stop_strings_stop_nothing() {
        assert_eq!(trace(&["", "x"], &["ab", "x"]), "ab|!1|");
        assert_eq!(trace(&[], &["ab", ""]), "ab||");
    }

    #[test]
    fn the_outcome_does_not_depend_on_how_the_text_is_cut() {
        let (text, stops) = ("aabaabaaabäbaab<|im_end|>x", ["aaab", "äb", "<|im_end|>", "abä"]);
        let chars: Vec<String> = text.chars().map(String::from).collect();
        for stop in stops {
            let whole = trace(&[stop], &[text]).replace('|', "");
            let pieces: Vec<&str> = chars.iter().map(String::as_str).collect();
            assert_eq!(trace(&[stop], &pieces).replace('|', ""), whole, "{stop}");
        }
    }

    #[test]
    fn a_long_self_similar_stop_string_costs_linear_time() {
        let stop = "a".repeat(50_000) + "b";
        let mut matcher = StopMatcher::new(vec![stop]);
        let emitted: usize = (0..1_000).map(|_| matcher.push(&"a".repeat(1_000)).emit.len()).sum();
        assert_eq!(emitted, 1_000_000 - 50_000);
    }
}
