//! A response, its items, and the events that build it.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::calls::answer;
use crate::dialects::openai::logprobs::ChatLogprob;

/// A response.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ResponseObject {
    pub(crate) id: String,
    /// `response`
    pub(crate) object: &'static str,
    pub(crate) created_at: u64,
    pub(crate) status: Status,
    pub(crate) error: Option<ResponseError>,
    pub(crate) incomplete_details: Option<IncompleteDetails>,
    pub(crate) model: String,
    pub(crate) output: Vec<OutputItem>,
    /// Absent until the response has ended.
    pub(crate) usage: Option<ResponseUsage>,
    #[serde(flatten)]
    pub(crate) asked: AskedFor,
}

/// What its request said, as it is given back.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AskedFor {
    /// Always `false`.
    pub(crate) background: bool,
    pub(crate) instructions: Option<String>,
    pub(crate) max_output_tokens: Option<usize>,
    #[schema(value_type = Object)]
    pub(crate) metadata: Box<RawValue>,
    pub(crate) parallel_tool_calls: bool,
    pub(crate) previous_response_id: Option<String>,
    pub(crate) prompt_cache_key: Option<String>,
    #[schema(value_type = Object)]
    pub(crate) reasoning: Box<RawValue>,
    /// `default`
    pub(crate) service_tier: &'static str,
    pub(crate) store: bool,
    pub(crate) temperature: Option<f32>,
    #[schema(value_type = Object)]
    pub(crate) text: Box<RawValue>,
    #[schema(value_type = Value)]
    pub(crate) tool_choice: Box<RawValue>,
    #[schema(value_type = Vec<Object>)]
    pub(crate) tools: Box<RawValue>,
    pub(crate) top_logprobs: usize,
    pub(crate) top_p: Option<f32>,
    /// `disabled`
    pub(crate) truncation: &'static str,
}

/// How far a response or an item of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ResponseStatus)]
pub(crate) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

/// Why there is no (further) answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ResponseError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Why an answer stopped short.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct IncompleteDetails {
    /// `max_output_tokens`
    pub(crate) reason: &'static str,
}

/// An item of an output.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum OutputItem {
    Message {
        id: String,
        status: Status,
        /// `assistant`
        role: &'static str,
        content: Vec<OutputPart>,
    },
    Reasoning {
        id: String,
        status: Status,
        summary: Vec<SummaryPart>,
        /// What shows that the summary is this server's, where that was asked for.
        encrypted_content: Option<String>,
    },
    FunctionCall {
        id: String,
        status: Status,
        call_id: String,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// JSON, as the model wrote it.
        arguments: String,
    },
    CustomToolCall {
        id: String,
        status: Status,
        call_id: String,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        input: String,
    },
}

/// A part of a message.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum OutputPart {
    OutputText {
        text: String,
        /// Always empty.
        #[schema(value_type = Vec<Object>)]
        annotations: [(); 0],
        logprobs: Vec<ChatLogprob>,
    },
}

/// A part of what the model thought.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum SummaryPart {
    SummaryText { text: String },
}

/// What a call took, in tokens.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ResponseUsage {
    input_tokens: usize,
    input_tokens_details: InputTokensDetails,
    output_tokens: usize,
    output_tokens_details: OutputTokensDetails,
    total_tokens: usize,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ResponseInputTokensDetails)]
struct InputTokensDetails {
    /// Tokens that were really reused.
    cached_tokens: usize,
    /// Always 0: whatever is read is cached, and nothing more is asked for that.
    cache_write_tokens: usize,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ResponseOutputTokensDetails)]
struct OutputTokensDetails {
    reasoning_tokens: usize,
}

impl From<answer::Usage> for ResponseUsage {
    fn from(usage: answer::Usage) -> ResponseUsage {
        ResponseUsage {
            input_tokens: usage.n_prompt,
            input_tokens_details: InputTokensDetails { cached_tokens: usage.n_reused, cache_write_tokens: 0 },
            output_tokens: usage.n_generated,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: usage.n_thinking },
            total_tokens: usage.n_prompt + usage.n_generated,
        }
    }
}

/// An event of a streamed response; its `event:` line says its type too.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResponseEvent {
    pub(crate) r#type: &'static str,
    /// From 0, one more with each.
    pub(crate) sequence_number: usize,
    #[serde(flatten)]
    pub(crate) body: EventBody,
}

/// What an event brings.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum EventBody {
    /// Of the response: `created`, `in_progress`, `completed`, `incomplete`, `failed`.
    Response {
        response: Box<ResponseObject>,
    },
    /// Of an item: `added`, `done`.
    Item {
        output_index: usize,
        item: OutputItem,
    },
    /// Of a part of a message: `added`, `done`.
    Part {
        item_id: String,
        output_index: usize,
        content_index: usize,
        part: OutputPart,
    },
    TextDelta {
        item_id: String,
        output_index: usize,
        content_index: usize,
        delta: String,
        logprobs: Vec<ChatLogprob>,
    },
    TextDone {
        item_id: String,
        output_index: usize,
        content_index: usize,
        text: String,
        logprobs: Vec<ChatLogprob>,
    },
    /// Of a part of what was thought: `added`, `done`.
    Summary {
        item_id: String,
        output_index: usize,
        summary_index: usize,
        part: SummaryPart,
    },
    SummaryDelta {
        item_id: String,
        output_index: usize,
        summary_index: usize,
        delta: String,
    },
    SummaryDone {
        item_id: String,
        output_index: usize,
        summary_index: usize,
        text: String,
    },
    /// Of a call's arguments, or of a custom tool's input.
    CallDelta {
        item_id: String,
        output_index: usize,
        delta: String,
    },
    ArgumentsDone {
        item_id: String,
        output_index: usize,
        name: String,
        arguments: String,
    },
    InputDone {
        item_id: String,
        output_index: usize,
        input: String,
    },
}

/// That a response is forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedResponse {
    id: String,
    /// `response`
    object: &'static str,
    /// Always `true`.
    deleted: bool,
}

impl DeletedResponse {
    pub(crate) fn new(id: String) -> DeletedResponse {
        DeletedResponse { id, object: "response", deleted: true }
    }
}
