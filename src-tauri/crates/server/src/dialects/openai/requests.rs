//! What may be in the bodies of the calls, for those who read the API's description.
//!
//! Bodies are taken apart field by field, so that every complaint names its field; nothing is ever read into these. A
//! test sends every example here through the parsers.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// A conversation to go on with. Every field that is not here is refused by its name, unless it is a hint that cannot
/// change the answer.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct ChatRequest {
    /// Oldest first.
    #[schema(min_items = 1, example = json!([{"role": "user", "content": "Good morning"}]))]
    messages: Vec<Message>,
    /// How many rivals each token's log-probability comes with.
    #[schema(required = false, maximum = 20, example = 2)]
    top_logprobs: Option<usize>,
    /// Whether log-probabilities come with the answer.
    #[schema(required = false, example = true)]
    logprobs: Option<bool>,
    /// The same as `max_tokens`.
    #[schema(required = false, example = 16)]
    max_completion_tokens: Option<i64>,
    /// Whether the answer goes on with the last message instead of beginning one.
    #[schema(required = false, example = false)]
    continue_final_message: Option<bool>,
    /// Whether the template is to begin the answer.
    #[schema(required = false, example = true)]
    add_generation_prompt: Option<bool>,
    /// Variables for the chat template.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"enable_thinking": false}))]
    chat_template_kwargs: Option<BTreeMap<String, Value>>,
    /// The functions that the model may call.
    #[schema(required = false, example = json!([{"type": "function", "function": {"name": "get_weather"}}]))]
    tools: Option<Vec<ToolDefinition>>,
    /// `none`, `auto`, `required`, or one of the functions.
    #[schema(required = false, value_type = Option<String>, example = "auto")]
    tool_choice: Option<Value>,
    /// Whether an answer may have more than one call.
    #[schema(required = false, example = true)]
    parallel_tool_calls: Option<bool>,
    /// Whether and how hard to think, for templates that know it.
    #[schema(required = false, example = "low")]
    reasoning_effort: Option<String>,
    /// How much to say, for templates that know it.
    #[schema(required = false, example = "low")]
    verbosity: Option<String>,
    #[serde(flatten)]
    common: CommonParameters,
}

/// A function that the model may call.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct ToolDefinition {
    /// `function`
    #[schema(example = "function")]
    r#type: String,
    function: FunctionDefinition,
}

/// What a function is called, is for and takes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct FunctionDefinition {
    #[schema(example = "get_weather")]
    name: String,
    #[schema(required = false, example = "The weather in a city")]
    description: Option<String>,
    /// A JSON schema.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"type": "object", "properties": {"city": {"type": "string"}}}))]
    parameters: Option<Value>,
    /// Whether a call's arguments always fit the schema.
    #[schema(required = false, example = false)]
    strict: Option<bool>,
}

/// A call that an answer had.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct PastCall {
    #[schema(example = "call_1")]
    id: String,
    /// `function`
    #[schema(example = "function")]
    r#type: String,
    function: PastFunction,
}

/// The function that was called.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct PastFunction {
    #[schema(example = "get_weather")]
    name: String,
    #[schema(example = r#"{"city": "Paris"}"#)]
    arguments: String,
}

/// A message of a conversation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    #[schema(pattern = "^(system|developer|user|assistant|tool)$", example = "user")]
    role: String,
    #[schema(required = false)]
    content: Option<Content>,
    #[schema(required = false, example = "Ann")]
    name: Option<String>,
    /// What a `tool` answers to.
    #[schema(required = false, example = "call_1")]
    tool_call_id: Option<String>,
    /// The calls of an answer.
    #[schema(required = false, example = json!([]))]
    tool_calls: Option<Vec<PastCall>>,
    /// What was thought before an answer.
    #[schema(required = false, example = "The user greets.")]
    reasoning_content: Option<String>,
}

/// What a message says; an assistant's may say nothing.
#[derive(ToSchema)]
#[schema(example = "Good morning")]
#[serde(untagged)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) enum Content {
    Text(String),
    /// They are joined by line breaks.
    Parts(Vec<TextPart>),
}

/// A part of a message.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct TextPart {
    /// `text`
    #[schema(example = "text")]
    r#type: String,
    #[schema(example = "Good morning")]
    text: String,
}

/// What to go on with: a text, token ids, or a list of these, each of which is answered.
#[derive(ToSchema)]
#[schema(example = "Once upon a time")]
#[serde(untagged)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// One string that ends the answer, or up to 16.
#[derive(ToSchema)]
#[schema(example = json!(["END"]))]
#[serde(untagged)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) enum Stop {
    One(String),
    Several(Vec<String>),
}

/// A text to go on with.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct CompletionRequest {
    prompt: Prompt,
    /// How many rivals each token's log-probability comes with.
    #[schema(required = false, maximum = 5, example = 1)]
    logprobs: Option<usize>,
    /// Whether an answer begins with its prompt; not together with `logprobs`.
    #[schema(required = false, example = false)]
    echo: Option<bool>,
    #[serde(flatten)]
    common: CommonParameters,
}

/// Texts whose vectors are wanted.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct EmbeddingRequest {
    input: EmbeddingInput,
    /// The model's id or another of its names; absent or empty means the loaded one.
    #[schema(required = false, example = "")]
    model: Option<String>,
    /// The first so many values of each vector, brought to a length of 1 by themselves.
    #[schema(required = false, minimum = 1, example = 64)]
    dimensions: Option<usize>,
    /// `float`, or `base64` of 32-bit floats, little-endian.
    #[schema(required = false, example = "base64")]
    encoding_format: Option<String>,
    /// Whether what is too much of a long text is left out; else the call is refused.
    #[schema(required = false, example = true)]
    truncate: Option<bool>,
    /// The same, where what is beyond so many tokens is too much; -1 means what the model can read.
    #[schema(required = false, example = 128)]
    truncate_prompt_tokens: Option<i64>,
    #[schema(required = false, example = "somebody")]
    user: Option<String>,
}

/// A text or its tokens, or a list of up to 2,048 of these.
#[derive(ToSchema)]
#[schema(example = json!(["good morning", "good night"]))]
#[serde(untagged)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) enum EmbeddingInput {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// What both generation calls take.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct CommonParameters {
    /// The model's id or another of its names; absent or empty means the loaded one.
    #[schema(required = false, example = "")]
    model: Option<String>,
    /// Whether the answer comes as server-sent events.
    #[schema(required = false, example = true)]
    stream: Option<bool>,
    #[schema(required = false)]
    stream_options: Option<StreamOptions>,
    /// Upper bound on the answer's tokens; -1 is none.
    #[schema(required = false, example = 16)]
    max_tokens: Option<i64>,
    /// 0 is greedy.
    #[schema(required = false, minimum = 0, maximum = 2, example = 0.7)]
    temperature: Option<f64>,
    /// Keep the smallest set of tokens whose probability reaches this.
    #[schema(required = false, minimum = 0, maximum = 1, example = 0.95)]
    top_p: Option<f64>,
    /// Keep this many of the likeliest tokens; 0 and -1 are off.
    #[schema(required = false, example = 40)]
    top_k: Option<i64>,
    /// Keep tokens at least this likely relative to the likeliest.
    #[schema(required = false, minimum = 0, maximum = 1, example = 0.05)]
    min_p: Option<f64>,
    #[schema(required = false, minimum = -2, maximum = 2, example = 0)]
    frequency_penalty: Option<f64>,
    #[schema(required = false, minimum = -2, maximum = 2, example = 0)]
    presence_penalty: Option<f64>,
    /// 1 is off.
    #[schema(required = false, maximum = 10, example = 1)]
    repetition_penalty: Option<f64>,
    /// Token ids with what is added to their logits, -100 to 100.
    #[schema(required = false, example = json!({"5": -100}))]
    logit_bias: Option<BTreeMap<String, f64>>,
    /// Fixes the random choices.
    #[schema(required = false, example = 7)]
    seed: Option<i64>,
    #[schema(required = false)]
    stop: Option<Stop>,
    /// Go on past the model's own end.
    #[schema(required = false, example = false)]
    ignore_eos: Option<bool>,
    /// `text`, `json_object` or `json_schema`.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"type": "json_object"}))]
    response_format: Option<Value>,
    /// The agent's name, if `X-Session-ID` does not say it.
    #[schema(required = false, pattern = "^[A-Za-z0-9._-]{1,256}$", example = "research")]
    session_id: Option<String>,
    /// The same, in OpenAI's word.
    #[schema(required = false, pattern = "^[A-Za-z0-9._-]{1,256}$", example = "research")]
    prompt_cache_key: Option<String>,
    /// Its `user_id` names the agent where nothing else does.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"user_id": "u"}))]
    metadata: Option<Value>,
    /// Answers to each prompt, drawn from `seed` and the seeds that follow it.
    #[schema(required = false, minimum = 1, maximum = 16, example = 1)]
    n: Option<i64>,
}

/// How an answer is streamed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct StreamOptions {
    /// Whether a last chunk tells the usage.
    #[schema(required = false, example = true)]
    include_usage: Option<bool>,
}
