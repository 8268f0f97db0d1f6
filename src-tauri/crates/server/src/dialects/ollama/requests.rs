//! What may be in the bodies of this API's calls, for those who read its description; nothing is ever read into these. A
//! test sends every example here through the parsers.

use serde_json::Value;
use utoipa::ToSchema;

/// A conversation to go on with. Without messages the model is looked for, and nothing is said.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct OllamaChatRequest {
    #[schema(required = false)]
    messages: Option<Vec<OllamaInputMessage>>,
    /// Functions that the model may call.
    #[schema(required = false, value_type = Option<Vec<BTreeMap<String, Value>>>,
        example = json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]))]
    tools: Option<Value>,
    #[serde(flatten)]
    common: OllamaParameters,
}

/// A prompt to answer. Without one the model is looked for, and nothing is said.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct OllamaGenerateRequest {
    #[schema(required = false, example = "Good morning")]
    prompt: Option<String>,
    #[schema(required = false, example = "Be brief.")]
    system: Option<String>,
    /// Whether the prompt is taken as it is, without the model's template.
    #[schema(required = false, example = false)]
    raw: Option<bool>,
    #[serde(flatten)]
    common: OllamaParameters,
}

/// What both calls take.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct OllamaParameters {
    /// The model's id or another of its names, with or without `:latest`; absent or empty means the loaded one.
    #[schema(required = false, example = "")]
    model: Option<String>,
    /// Whether the answer comes in lines; it does where this is absent.
    #[schema(required = false, example = true)]
    stream: Option<bool>,
    /// `json`, or a schema.
    #[schema(required = false, value_type = Option<String>, example = "")]
    format: Option<Value>,
    /// How the answer is steered.
    #[schema(required = false, value_type = Option<BTreeMap<String, Value>>, example = json!({"temperature": 0.7, "num_predict": 16}))]
    options: Option<Value>,
    /// Whether to think, or how hard.
    #[schema(required = false, value_type = Option<bool>, example = false)]
    think: Option<Value>,
    /// How long the model is to stay: a hint.
    #[schema(required = false, value_type = Option<String>, example = "5m")]
    keep_alive: Option<Value>,
    /// Whether log-probabilities come with the answer.
    #[schema(required = false, example = true)]
    logprobs: Option<bool>,
    /// How many rivals each comes with.
    #[schema(required = false, maximum = 20, example = 2)]
    top_logprobs: Option<usize>,
}

/// A message of a conversation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct OllamaInputMessage {
    /// `system`, `user`, `assistant` or `tool`.
    #[schema(pattern = "^(system|user|assistant|tool)$", example = "user")]
    role: String,
    #[schema(required = false, example = "Good morning")]
    content: Option<String>,
}

/// Texts whose vectors are wanted.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct OllamaEmbedRequest {
    #[schema(required = false, example = "")]
    model: Option<String>,
    /// A text, or a list of some.
    #[schema(value_type = String, example = json!(["good morning", "good night"]))]
    input: Value,
    /// Whether texts that are too long are cut; they are where this is absent.
    #[schema(required = false, example = true)]
    truncate: Option<bool>,
    /// The first so many values of each vector.
    #[schema(required = false, minimum = 1, example = 2)]
    dimensions: Option<usize>,
    /// How long the model is to stay: a hint.
    #[schema(required = false, value_type = Option<String>, example = "5m")]
    keep_alive: Option<Value>,
}

/// A text whose vector is wanted.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct OllamaEmbeddingsRequest {
    #[schema(required = false, example = "")]
    model: Option<String>,
    #[schema(example = "good morning")]
    prompt: String,
}

/// Which model to show.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever read into it")]
pub(crate) struct OllamaShowRequest {
    /// The model's id or another of its names.
    #[schema(example = "model:latest")]
    model: String,
}
