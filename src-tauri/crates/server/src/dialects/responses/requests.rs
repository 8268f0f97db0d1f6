//! What may be in the body of a call, for those who read the API's description; nothing is ever read into these. A test
//! sends every example here through the parser.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// What to respond to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct ResponsesRequest {
    /// The model's id or another of its names; absent or empty means the loaded one.
    #[schema(required = false, example = "")]
    model: Option<String>,
    input: Input,
    /// What stands before the conversation, for this response only.
    #[schema(required = false, example = "Be brief.")]
    instructions: Option<String>,
    /// The response to go on with; the server keeps the last ones, in memory.
    #[schema(required = false, value_type = Option<String>, example = json!(null))]
    previous_response_id: Option<String>,
    /// Whether the response is kept for others to go on with.
    #[schema(required = false, example = false)]
    store: Option<bool>,
    /// Whether the response comes as server-sent events.
    #[schema(required = false, example = true)]
    stream: Option<bool>,
    /// Upper bound on the output's tokens.
    #[schema(required = false, minimum = 1, example = 16)]
    max_output_tokens: Option<usize>,
    /// 0 is greedy.
    #[schema(required = false, minimum = 0, maximum = 2, example = 0.7)]
    temperature: Option<f64>,
    /// Keep the smallest set of tokens whose probability reaches this.
    #[schema(required = false, minimum = 0, maximum = 1, example = 0.95)]
    top_p: Option<f64>,
    /// How many rivals each token's log-probability comes with.
    #[schema(required = false, maximum = 20, example = 0)]
    top_logprobs: Option<usize>,
    /// `function`, `custom` and `namespace` are shown to the model; others are dropped.
    #[schema(required = false, value_type = Option<Vec<BTreeMap<String, Value>>>,
        example = json!([{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}]))]
    tools: Option<Value>,
    /// `none`, `auto`, `required`, or a tool.
    #[schema(required = false, value_type = Option<String>, example = "auto")]
    tool_choice: Option<Value>,
    /// Whether the output may have several calls.
    #[schema(required = false, example = true)]
    parallel_tool_calls: Option<bool>,
    /// How hard to think.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"effort": "low"}))]
    reasoning: Option<Value>,
    /// What the output must be, and how much it is to say.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"format": {"type": "text"}}))]
    text: Option<Value>,
    /// `message.output_text.logprobs` and `reasoning.encrypted_content` are known.
    #[schema(required = false, example = json!(["reasoning.encrypted_content"]))]
    include: Option<Vec<String>>,
    /// The agent's name, if `X-Session-ID` does not say it.
    #[schema(required = false, pattern = "^[A-Za-z0-9._-]{1,256}$", example = "research")]
    prompt_cache_key: Option<String>,
    /// Given back as it is; its `user_id` names the agent where nothing else does.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"user_id": "u"}))]
    metadata: Option<Value>,
}

/// What a user says, or a conversation.
#[derive(ToSchema)]
#[schema(example = "Good morning")]
#[serde(untagged)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) enum Input {
    Text(String),
    /// Messages, reasoning, calls and their outputs, oldest first.
    Items(Vec<BTreeMap<String, Value>>),
}
