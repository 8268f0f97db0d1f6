//! A request as the engine takes it: parsed, tokenised, bounded.

use std::time::{Duration, Instant};

use scheduler::{CheckedPrompt, TokenId};
use text::Constraint;

use super::model_name::ModelName;
use super::prompt::PromptNotes;
use super::readiness::NotReadyReason;
use super::request_id::RequestId;
use super::state::{After, State};

/// A valid request.
#[derive(Debug)]
pub struct Request {
    /// Echoed in logs and records.
    pub id: RequestId,
    /// Who is to answer.
    pub model: ModelName,
    /// The prompt, checked against the model's vocabulary.
    pub prompt: CheckedPrompt,
    /// What is known of how the prompt was put together; all of it is optional.
    pub notes: PromptNotes,
    /// Upper bound on sampled tokens; absent = the room that the context leaves.
    pub max_tokens: Option<usize>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// What holds the answer to a format, fresh; such an answer always ends with the model's end of turn.
    pub constraint: Option<Constraint>,
    /// Whether the text shows control tokens that are markers in answers, for a reader of them.
    pub markers: Markers,
    /// Strings that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Ignore the model's own end of turn (benchmarks).
    pub ignore_end_of_turn: bool,
    /// Report log-probabilities with this many rivals.
    pub top_logprobs: Option<usize>,
    /// The conversation's name, where the client gave one; a hint, never a matter of correctness.
    pub agent: Option<String>,
}

/// Whether an answer's text shows the control tokens that are markers in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Markers {
    /// It shows no control token.
    #[default]
    Hidden,
    /// It shows them as `text::TextModel::detokenizer_with_markers` does.
    Shown,
}

/// How the next token is chosen. Temperature 0 is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 = greedy; `0.0..=2.0`.
    pub temperature: f32,
    /// Keep the smallest set of tokens whose probability reaches this; 1 = off.
    pub top_p: f32,
    /// Keep this many of the likeliest tokens; 0 = off.
    pub top_k: usize,
    /// Keep tokens at least this likely relative to the likeliest; 0 = off.
    pub min_p: f32,
    /// Subtracted from a token's logit for every time it is in the penalties' window.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of a token in the penalties' window.
    pub presence_penalty: f32,
    /// Divides (positive) or multiplies (negative) logits of tokens in the penalties' window; 1 = off.
    pub repetition_penalty: f32,
    /// How many of the answer's last tokens the three penalties count. The prompt's never do, nor those that a
    /// constraint held to a format.
    pub penalty_window: usize,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Fixes the random choices; the same in any batch.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            penalty_window: 64,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// Why a request got no answer, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A value the engine cannot take.
    #[error("{message}")]
    Invalid {
        /// The parameter's name in the API.
        param: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The prompt does not fit the effective context.
    #[error("the prompt has {n_tokens} tokens and the context holds {limit}")]
    TooLong {
        /// Tokens of the prompt.
        n_tokens: usize,
        /// The effective context.
        limit: usize,
    },
    /// The model is here, and for something else.
    #[error("{message}")]
    WrongPurpose {
        /// What it is for.
        message: String,
    },
    /// The pool had no room within the queue timeout.
    #[error("the request needs {needed} blocks; {free} of {total} are free")]
    PoolExhausted {
        /// Blocks needed.
        needed: usize,
        /// Blocks free or evictable.
        free: usize,
        /// Blocks in the pool.
        total: usize,
    },
    /// No permit: too many requests in flight.
    #[error("{n_waiting} requests are waiting")]
    Busy {
        /// How many.
        n_waiting: usize,
    },
    /// The engine admits nothing in this state.
    #[error("the engine takes nothing: {}", reason.name())]
    Unavailable {
        /// Why.
        reason: NotReadyReason,
        /// When it may be worth asking again.
        retry_after: Option<Duration>,
    },
    /// The drain's deadline passed, or the sequence was preempted for good.
    #[error("the answer was interrupted: {why}")]
    Interrupted {
        /// Why.
        why: &'static str,
    },
    /// The forward pass failed. The details are in the log under this id.
    #[error("internal error {id}")]
    Fault {
        /// An id to look for in the log.
        id: String,
    },
}

impl Refusal {
    /// That nothing is admitted in `state`, and when it may be worth asking again.
    pub fn unavailable(state: &State, now: Instant) -> Refusal {
        let soon = Some(Duration::from_secs(2));
        let (reason, retry_after) = match state {
            State::Unloaded => (NotReadyReason::NoModel, None),
            State::Failed(_) => (NotReadyReason::EngineFailed, None),
            State::Stopped => (NotReadyReason::ShuttingDown, None),
            State::Loading => (NotReadyReason::ModelLoading, soon),
            // It was ready a moment ago, or is by now.
            State::Ready => (NotReadyReason::ShuttingDown, soon),
            State::Draining { then, deadline } => {
                let left = deadline.saturating_duration_since(now);
                // What comes after an exit is another process's start; after the other two, a person or a load.
                let start = if *then == After::Exit { Duration::from_secs(5) } else { Duration::ZERO };
                (NotReadyReason::ShuttingDown, Some(left + start))
            }
            State::Parked => (NotReadyReason::Parked, Some(Duration::from_secs(30))),
        };
        Refusal::Unavailable { reason, retry_after }
    }
}
