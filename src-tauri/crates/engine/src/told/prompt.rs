//! A prompt as the engine takes it, and why there is none.

use std::ops::Range;
use std::sync::Arc;

use scheduler::{StatePoints, TokenId};
use text::{AnswerReading, ChatMessage, TextError, has_key_twice};

use super::prompt_map::{MessageOutline, PromptMap};

use super::trace_id::TraceId;

/// A prompt as the engine takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// The prompt, with remembered ids where earlier answers come back unchanged.
    pub tokens: Vec<TokenId>,
    /// Where its messages end, and how many of its tokens were remembered.
    pub notes: PromptNotes,
}

/// What the maker of a prompt knows of it and the tokens alone don't say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptNotes {
    /// Token positions at which messages end: where later requests may branch off.
    pub message_ends: Vec<usize>,
    /// Token positions to which later requests go back: where the state of recurrent layers is worth keeping.
    pub state_points: StatePoints,
    /// Tokens that are ids the model generated, taken instead of what their text would tokenise to.
    pub n_spliced: usize,
    /// Where these are in the prompt, in order.
    pub spliced: Vec<Range<usize>>,
    /// What was done to the request on its way that its answer does not show, in words for its record.
    pub remarks: Vec<String>,
    /// The trace that its request is part of.
    pub trace: Option<TraceId>,
    /// How its answer is read, and earlier ones are read back; none where the prompt is no chat.
    pub reading: Option<Arc<AnswerReading>>,
    /// Where in it the chat's messages are, where that is known.
    pub map: Option<Arc<PromptMap>>,
}

/// What is known of a chat beside what was rendered of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatFacts {
    /// How answers to it are read; none where they are text and nothing is known of them.
    pub reading: Option<AnswerReading>,
    /// Its messages.
    pub messages: Vec<MessageOutline>,
    /// Whether tools, calls and results were put into words, so that the template was shown other messages.
    pub has_tools_in_words: bool,
}

impl ChatFacts {
    /// Those of a chat's messages.
    pub fn outline(messages: &[ChatMessage]) -> Vec<MessageOutline> {
        let outline = |message: &ChatMessage| MessageOutline {
            role: message.role.clone(),
            n_bytes: message.content.trim().len(),
            has_key_twice: message.tool_calls.iter().any(|call| has_key_twice(&call.arguments)),
        };
        messages.iter().map(outline).collect()
    }
}

/// Why there is no prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The chat cannot be rendered.
    #[error(transparent)]
    Text(#[from] TextError),
    /// It does not fit the effective context. That is found out before it is encoded to its end, so the number is
    /// one that it has at least.
    #[error("the prompt has {at_least} tokens or more and the context holds {limit}")]
    TooLong {
        /// Tokens that it has at least.
        at_least: usize,
        /// The effective context.
        limit: usize,
    },
    /// Nobody waits for it any more.
    #[error("nobody waits for the prompt")]
    Abandoned,
}
