//! Functions that a model may call, and calls that it made.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A function that a model may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// What it is called by.
    pub name: String,
    /// What it is for, in words for the model.
    pub description: Option<String>,
    /// The JSON schema of its arguments; absent means that there are none to speak of.
    pub parameters: Option<Value>,
    /// Whether a call's arguments always fit the schema.
    pub strict: bool,
}

/// A call that a model made, as a conversation has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What its result refers to; may be empty where an API has none.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// JSON, as whoever wrote it wrote it. It may be broken: models break it, and clients send it back.
    pub arguments: String,
}
