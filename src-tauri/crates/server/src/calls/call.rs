//! A call: what somebody wants a model to go on with, and how.

use engine::SamplingChoices;
use text::{Chat, OutputFormat, TokenId};

use super::thinking::Thinking;
use super::tools::Tools;

/// A call as its API was read, checked as far as that can be without a model.
#[derive(Debug, PartialEq)]
pub(crate) struct Call {
    /// The model's name; absent or empty means whichever there is.
    pub(crate) model: Option<String>,
    pub(crate) prompt: Prompt,
    pub(crate) sampling: RequestedSampling,
    /// Upper bound on the answer's tokens; absent = the room that the context leaves.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    pub(crate) ignore_end_of_turn: bool,
    /// What the answer must be.
    pub(crate) format: Option<OutputFormat>,
    /// The functions that the model may call.
    pub(crate) tools: Tools,
    /// Whether the model is to think first, and how much.
    pub(crate) thinking: Thinking,
    /// What its reader noticed that the answer cannot show: for the request's record.
    pub(crate) remarks: Vec<String>,
    /// Report log-probabilities with this many rivals.
    pub(crate) top_logprobs: Option<usize>,
    /// The agent's name, where the body has one.
    pub(crate) agent: Option<String>,
    /// What its API calls things.
    pub(crate) names: Names,
}

/// A prompt as a client gives it.
#[derive(Debug, PartialEq)]
pub(crate) enum Prompt {
    /// Messages for the chat template.
    Chat(Chat),
    /// Text, taken as it is.
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<TokenId>),
    /// Texts and tokens, each of which is to be answered by itself.
    Each(Vec<Prompt>),
}

/// What a call says of sampling; where it is silent, others choose.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RequestedSampling {
    pub(crate) choices: SamplingChoices,
    pub(crate) logit_bias: Vec<(TokenId, f32)>,
    pub(crate) seed: Option<u64>,
    /// Answers to each prompt beside the first. They are drawn from the seeds that follow the call's, so that the first
    /// answer is that of a call for one, and each of the others that of a call with its own seed.
    pub(crate) n_more: usize,
}

/// What an API calls those parts of a call that only a model can judge: a complaint about one of them names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Names {
    /// The prompt.
    pub(crate) prompt: &'static str,
    /// What the answer must be.
    pub(crate) format: &'static str,
    /// The schema in that; a JSON pointer goes on from here.
    pub(crate) schema: &'static str,
    /// The functions that the model may call.
    pub(crate) tools: &'static str,
    /// Which of them it is to call.
    pub(crate) tool_choice: &'static str,
    /// The biases of tokens.
    pub(crate) logit_bias: &'static str,
}
