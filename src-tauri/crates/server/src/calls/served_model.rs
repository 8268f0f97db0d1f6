//! What a client may know of a model that it can ask.

use std::time::UNIX_EPOCH;

use engine::{About, EmbedSpec, ModelCard, Purpose, SamplingChoices};
use serde::Serialize;
use utoipa::ToSchema;

use super::default_sampling::DefaultSampling;

/// A loaded model, as far as it is told.
#[derive(Debug)]
pub(crate) struct ServedModel {
    pub(crate) id: String,
    pub(crate) purpose: &'static str,
    /// What its vectors are like, if it gives some.
    pub(crate) embedding: Option<EmbeddingInfo>,
    /// When it was loaded, in seconds since 1970.
    pub(crate) loaded_at: u64,
    /// Tokens that one request may have.
    pub(crate) context: usize,
    /// Tokens that it was trained for.
    pub(crate) trained_context: usize,
    pub(crate) has_chat_template: bool,
    /// Whether its answers can have thoughts.
    pub(crate) thinks: bool,
    pub(crate) file_bytes: u64,
    /// What its file says of itself.
    pub(crate) about: About,
    /// What stands for its weights, and how they are computed with.
    pub(crate) fingerprint: [u8; 32],
    /// What a request is sampled with that says nothing, where anything is sampled.
    pub(crate) sampling: Option<DefaultSampling>,
}

impl ServedModel {
    /// The model of `card`, sampled by the settings where they say.
    pub(crate) fn new(card: &ModelCard, settings: &SamplingChoices) -> ServedModel {
        let generates = matches!(card.purpose, Purpose::Generate);
        ServedModel {
            id: card.name.clone(),
            purpose: card.purpose.name(),
            embedding: card.embedding().map(EmbeddingInfo::from),
            loaded_at: card.loaded_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            context: card.effective_context,
            trained_context: card.trained_context,
            has_chat_template: generates && card.text.has_chat_template(),
            thinks: generates && card.text.answer_form().is_some_and(|form| form.thinks()),
            file_bytes: card.file_bytes,
            about: card.about.clone(),
            fingerprint: card.fingerprint,
            sampling: generates.then(|| DefaultSampling::new(settings, card)),
        }
    }
}

/// What a model's vectors are like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct EmbeddingInfo {
    /// Values of a vector.
    dimensions: usize,
    /// How the vectors of a text's tokens become one: `mean`, `cls` (the first) or `last`.
    pooling: &'static str,
    /// Tokens that a text may have.
    max_input_tokens: usize,
}

impl From<&EmbedSpec> for EmbeddingInfo {
    fn from(spec: &EmbedSpec) -> EmbeddingInfo {
        EmbeddingInfo {
            dimensions: spec.width,
            pooling: spec.pooling.name(),
            max_input_tokens: spec.max_tokens,
        }
    }
}
