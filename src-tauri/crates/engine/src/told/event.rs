//! What a request's stream carries, from the engine thread to the HTTP task.

use std::time::Duration;

use scheduler::TokenId;

use super::checkpoint::CheckpointUse;
use super::difference::Difference;
use super::request::Refusal;

/// One message of a request's stream. Exactly one terminal event ends it: `Finished` or `Failed`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The sequence was admitted; `n_reused` of its `n_prompt` tokens need no compute, `n_restored` of those because they
    /// came back from the store.
    Admitted {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Leading tokens whose KV is there already.
        n_reused: usize,
        /// Of those, tokens whose KV came back from the store for this request.
        n_restored: usize,
        /// At which of the kept states it begins, on a model with recurrent layers.
        checkpoint: Option<CheckpointUse>,
        /// Where the prompt stops being what was there, unless all of it was.
        difference: Option<Difference>,
    },
    /// Prefill progress, at most one a step.
    Prefilled {
        /// Prompt tokens whose KV is in the pool, the reused ones included.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// New text, whole characters only; may be empty while a character or a possible stop string is incomplete.
    Text {
        /// The text.
        text: String,
        /// The tokens sampled since the last event.
        tokens: Vec<TokenId>,
        /// When the request asked for log-probabilities, one entry for each token whose text starts in this one's; a
        /// token of which a stop string leaves nothing has none.
        logprobs: Vec<TokenLogprob>,
    },
    /// Terminal: the answer is complete.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
    /// Terminal: no (further) answer, and why.
    Failed {
        /// The kind, with its values.
        error: Refusal,
        /// What it took so far.
        usage: Usage,
    },
}

impl Event {
    /// Whether nothing follows.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Event::Finished { .. } | Event::Failed { .. })
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// The model's own end of turn.
    EndOfTurn,
    /// A stop string of the request, which is not part of the text.
    StopString(String),
    /// `max_tokens`, or the room that the context left.
    Length,
}

/// A sampled token's log-probability and its best rivals.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenId,
    /// Its natural log-probability under the unmodified distribution.
    pub logprob: f32,
    /// The best tokens with theirs, best first; as many as were asked for.
    pub top: Vec<(TokenId, f32)>,
}

/// What a request took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Of those, tokens whose KV was reused.
    pub n_reused: usize,
    /// Tokens sampled.
    pub n_generated: usize,
    /// From receipt to admission.
    pub queued: Duration,
    /// From receipt to the first sampled token.
    pub time_to_first_token: Option<Duration>,
    /// From the first sampled token to the last.
    pub decoding: Duration,
}
