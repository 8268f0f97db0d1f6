//! What may be in the bodies of this API's calls, for those who read its description.
//!
//! Bodies are taken apart field by field, so that every complaint names its field; nothing is ever read into these. A
//! test sends every example here through the parsers.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// A conversation to go on with.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct MessagesRequest {
    /// Upper bound on the answer's tokens; with 0 the prompt is read and nothing is said.
    #[schema(minimum = 0, example = 16)]
    max_tokens: usize,
    /// Whether the answer comes as server-sent events.
    #[schema(required = false, example = true)]
    stream: Option<bool>,
    /// 0 is greedy.
    #[schema(required = false, minimum = 0, maximum = 2, example = 0.7)]
    temperature: Option<f64>,
    /// Keep the smallest set of tokens whose probability reaches this.
    #[schema(required = false, minimum = 0, maximum = 1, example = 0.95)]
    top_p: Option<f64>,
    /// Keep this many of the likeliest tokens; 0 is off.
    #[schema(required = false, example = 40)]
    top_k: Option<usize>,
    /// Strings that end the answer.
    #[schema(required = false, example = json!(["END"]))]
    stop_sequences: Option<Vec<String>>,
    /// Its `user_id` names the agent where no header does.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"user_id": "u"}))]
    metadata: Option<Value>,
    #[serde(flatten)]
    conversation: Conversation,
}

/// A conversation whose tokens are to be counted; `max_tokens` may be there.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct CountTokensRequest {
    #[serde(flatten)]
    conversation: Conversation,
}

/// A conversation, with what belongs to its prompt.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct Conversation {
    /// The model's id or another of its names; absent or empty means the loaded one.
    #[schema(required = false, example = "")]
    model: Option<String>,
    #[schema(required = false)]
    system: Option<BlocksOrText>,
    /// Oldest first. Where the last one is the assistant's, the answer goes on with it.
    #[schema(min_items = 1, example = json!([{"role": "user", "content": "Good morning"}]))]
    messages: Vec<InputMessage>,
    #[schema(required = false)]
    tools: Option<Vec<CustomTool>>,
    /// Its `type` is `auto`, `any`, `tool` or `none`.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"type": "auto"}))]
    tool_choice: Option<Value>,
    /// Its `type` is `enabled`, `adaptive`, `between_tools` or `disabled`; it ends within `budget_tokens`.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"type": "disabled"}))]
    thinking: Option<Value>,
    /// How hard to try, and the schema that the answer must fit.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"effort": "low"}))]
    output_config: Option<Value>,
}

/// A message of a conversation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct InputMessage {
    /// `user`, `assistant` or `system`.
    #[schema(pattern = "^(user|assistant|system)$", example = "user")]
    role: String,
    content: BlocksOrText,
}

/// What a message says.
#[derive(ToSchema)]
#[schema(example = "Good morning")]
#[serde(untagged)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) enum BlocksOrText {
    Text(String),
    /// Of type `text`, `thinking`, `tool_use`, `tool_result`, `document` or `search_result`.
    Blocks(Vec<BTreeMap<String, Value>>),
}

/// A tool that the model may use.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct CustomTool {
    #[schema(example = "weather")]
    name: String,
    #[schema(required = false, example = "Looks out of the window")]
    description: Option<String>,
    /// The schema of its input.
    #[schema(value_type = BTreeMap<String, Value>, example = json!({"type": "object", "properties": {}}))]
    input_schema: Value,
    /// Whether the input always fits the schema.
    #[schema(required = false, example = false)]
    strict: Option<bool>,
}
