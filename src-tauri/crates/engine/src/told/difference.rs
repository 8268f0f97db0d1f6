//! Where a prompt stops being what was there already, and why.

/// Why not all of a prompt was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceReason {
    /// Nothing that begins like it was seen lately.
    New,
    /// All that was said before is as it was, and more follows.
    GoesOn,
    /// Something else was said there before.
    Changed,
    /// The same was said before, and the memory of it is gone.
    NotKept,
    /// The same was said before and is in memory, but for the state that recurrent layers had there.
    NoCheckpoint,
}

crate::names! {
    pub DifferenceReason {
        New => "new",
        GoesOn => "goes_on",
        Changed => "changed",
        NotKept => "not_kept",
        NoCheckpoint => "no_checkpoint",
    }
}

/// What of a chat stands at a place of its prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptPlace {
    /// What the system says.
    System,
    /// The functions that may be called.
    Tools,
    /// A message.
    Message {
        /// Which one, from 0.
        idx: usize,
        /// Whose it is.
        role: String,
    },
}

/// The first token of a prompt that was not there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Why.
    pub why: DifferenceReason,
    /// In what of the chat; none where that is not known.
    pub place: Option<PromptPlace>,
    /// Tokens that would have been there too, had the prompt gone on as what was there before.
    pub n_missed: usize,
    /// Where something else was said before, what stands before that place: a few words.
    pub before: String,
    /// And what stands there now.
    pub after: String,
}
