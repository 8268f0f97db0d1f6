//! A conversation as a chat template sees it.

use serde::{Deserialize, Serialize};

use crate::tool::{Tool, ToolCall};

/// A conversation to be rendered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// The turns, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Whether the text ends with the opening of the assistant's next turn.
    pub add_generation_prompt: bool,
    /// Whether the last message is the beginning of an answer that the model is to go on with; the text then
    /// ends with that message's content, and `add_generation_prompt` has no effect.
    pub continue_final: bool,
    /// The functions that the model is shown.
    pub tools: Vec<Tool>,
    /// Further variables for the template; they cannot replace the above.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, …
    pub role: String,
    /// The text.
    pub content: String,
    /// The speaker's name, if the client gave one.
    pub name: Option<String>,
    /// What the model thought before it said this.
    pub thinking: Option<String>,
    /// The calls that the model made with it.
    pub tool_calls: Vec<ToolCall>,
    /// The call whose result this is.
    pub tool_call_id: Option<String>,
    /// Further fields of the message for the template; they cannot replace the above.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl ChatMessage {
    /// A message of text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> ChatMessage {
        ChatMessage { role: role.into(), content: content.into(), ..ChatMessage::default() }
    }
}
