//! A message that answers, its blocks, and the events that build it.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::diagnostics::Diagnostics;
use crate::calls::answer;

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageAnswer {
    pub(super) id: String,
    /// `message`
    pub(super) r#type: &'static str,
    /// `assistant`
    pub(super) role: &'static str,
    pub(super) model: String,
    pub(super) content: Vec<AnswerBlock>,
    pub(super) stop_reason: Option<StopReason>,
    pub(super) stop_sequence: Option<String>,
    /// Always `null`.
    pub(super) stop_details: Option<String>,
    pub(super) usage: MessageUsage,
    pub(super) diagnostics: Option<Diagnostics>,
}

/// A part of an answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum AnswerBlock {
    Text {
        text: String,
        /// Always `null`.
        citations: Option<String>,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[schema(value_type = Object)]
        input: Box<RawValue>,
    },
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopReason {
    EndTurn,
    MaxTokens,
    StopSequence,
    ToolUse,
    ModelContextWindowExceeded,
}

/// What a call took, in tokens. The prompt's are the sum of those read from the cache, those written to it, and the
/// rest.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct MessageUsage {
    pub(super) input_tokens: usize,
    /// Always 0: whatever is read is cached, and nothing more is asked for that.
    pub(super) cache_creation_input_tokens: usize,
    /// Tokens that were really reused.
    pub(super) cache_read_input_tokens: usize,
    cache_creation: CacheCreation,
    pub(super) output_tokens: usize,
    output_tokens_details: OutputTokensDetails,
    /// `standard`
    pub(super) service_tier: &'static str,
}

#[derive(Debug, Clone, Default, Serialize, ToSchema)]
struct CacheCreation {
    ephemeral_5m_input_tokens: usize,
    ephemeral_1h_input_tokens: usize,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct OutputTokensDetails {
    pub(super) thinking_tokens: usize,
}

/// An event of a streamed answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum MessageEvent {
    MessageStart { message: MessageAnswer },
    ContentBlockStart { index: usize, content_block: AnswerBlock },
    ContentBlockDelta { index: usize, delta: BlockDelta },
    ContentBlockStop { index: usize },
    MessageDelta { delta: MessageEnd, usage: MessageUsage },
    MessageStop,
    Ping,
}

/// What is added to a block.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type")]
pub(crate) enum BlockDelta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
}

/// How a streamed answer ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageEnd {
    pub(super) stop_reason: StopReason,
    pub(super) stop_sequence: Option<String>,
    /// Always `null`.
    pub(super) stop_details: Option<String>,
}

/// How many tokens a prompt has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenCount {
    pub(crate) input_tokens: usize,
}

impl MessageEvent {
    pub(super) fn name(&self) -> &'static str {
        match self {
            MessageEvent::MessageStart { .. } => "message_start",
            MessageEvent::ContentBlockStart { .. } => "content_block_start",
            MessageEvent::ContentBlockDelta { .. } => "content_block_delta",
            MessageEvent::ContentBlockStop { .. } => "content_block_stop",
            MessageEvent::MessageDelta { .. } => "message_delta",
            MessageEvent::MessageStop => "message_stop",
            MessageEvent::Ping => "ping",
        }
    }
}

impl From<answer::Usage> for MessageUsage {
    fn from(usage: answer::Usage) -> MessageUsage {
        MessageUsage {
            input_tokens: usage.n_prompt - usage.n_reused.min(usage.n_prompt),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.n_reused,
            cache_creation: CacheCreation::default(),
            output_tokens: usage.n_generated,
            output_tokens_details: OutputTokensDetails { thinking_tokens: usage.n_thinking },
            service_tier: "standard",
        }
    }
}
