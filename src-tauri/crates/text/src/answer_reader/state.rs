//! Where a reader is in an answer.

use super::harmony::HarmonyReader;
use super::json_calls::JsonCalls;
use super::literal_calls::LiteralCalls;
use super::named_call::NamedCall;
use super::tagged_call::TaggedCall;

#[derive(Debug)]
pub(crate) enum At {
    /// Before anything but white space.
    Start,
    Thoughts {
        is_fresh: bool,
    },
    /// After thoughts, before anything but white space.
    AfterThoughts,
    Text,
    /// After a block's opening marker, before a call's.
    BlockStart,
    Call(CallReader),
    /// After a call's body, before its closing marker; whether within a block.
    CallEnd,
    /// After a call.
    Between,
    Harmony(HarmonyReader),
}

#[derive(Debug)]
pub(crate) enum CallReader {
    Json(JsonCalls),
    Named(NamedCall),
    Tagged(TaggedCall),
    Literal(LiteralCalls),
}

/// What became of a piece of text.
pub(crate) enum Step {
    /// So many bytes are read.
    Took(usize),
    /// None is, until more is there.
    Wait,
    /// So many bytes are read, and what is held is no call.
    Refuse(usize),
}

impl Step {
    /// So many bytes are read, and nothing else happened.
    pub(crate) fn some(n: usize) -> Step {
        if n > 0 { Step::Took(n) } else { Step::Wait }
    }

    /// So many bytes are read, and the state is another one or not.
    pub(crate) fn took(n: usize, has_changed: bool) -> Step {
        if has_changed { Step::Took(n) } else { Step::some(n) }
    }
}
