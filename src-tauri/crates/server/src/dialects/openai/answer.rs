//! What an answer looks like, whole and in chunks, and what the two dialects of it have in common.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::{FinishReason, ModelCard, TokenLogprob, Usage};
use serde_json::{Value, json};
use text::TextModel;
use uuid::Uuid;

/// How one API writes choices.
pub(crate) trait Dialect: Send + 'static {
    /// What an answer's id begins with.
    const ID_PREFIX: &'static str;
    /// `object` of a whole answer.
    const WHOLE: &'static str;
    /// `object` of a chunk.
    const CHUNK: &'static str;

    /// The choice of the first chunk, where the API has one before any text.
    fn opening(&mut self) -> Option<Value>;

    /// The choice of a chunk that brings text; none when there is nothing to bring.
    fn delta(&mut self, model: &TextModel, piece: &Piece) -> Option<Value>;

    /// The choice of the chunk that says why the answer ended.
    fn last(&mut self, reason: &FinishReason) -> Value;

    /// The choice of a whole answer.
    fn whole(&mut self, model: &TextModel, all: &Piece, reason: &FinishReason) -> Value;
}

/// Text and what was sampled for it.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) logprobs: Vec<TokenLogprob>,
}

/// What all chunks of an answer have in common.
pub(crate) struct Envelope {
    id: String,
    created: u64,
    card: Arc<ModelCard>,
    system_fingerprint: String,
}

impl Envelope {
    /// That of a new answer of the dialect `D`.
    pub(crate) fn new<D: Dialect>(card: Arc<ModelCard>) -> Envelope {
        let fingerprint: String = card.fingerprint[..5].iter().map(|byte| format!("{byte:02x}")).collect();
        Envelope {
            id: format!("{}-{}", D::ID_PREFIX, Uuid::new_v4().simple()),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            card,
            system_fingerprint: format!("fp_{fingerprint}"),
        }
    }

    /// The vocabulary of the model that answers.
    pub(crate) fn text(&self) -> &TextModel {
        &self.card.text
    }

    /// Put choices into it.
    pub(crate) fn wrap(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.card.name,
            "system_fingerprint": self.system_fingerprint,
            "choices": choices,
        })
    }
}

/// Why an answer ended, in the API's word.
pub(crate) fn finish_reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::EndOfTurn | FinishReason::StopString(_) => "stop",
        FinishReason::Length => "length",
    }
}

/// `usage`; `cached_tokens` is what was really reused.
pub(crate) fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.n_prompt,
        "completion_tokens": usage.n_generated,
        "total_tokens": usage.n_prompt + usage.n_generated,
        "prompt_tokens_details": {"cached_tokens": usage.n_reused},
    })
}
