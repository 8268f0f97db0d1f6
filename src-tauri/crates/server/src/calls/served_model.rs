//! What a client may know of a model that it can ask.

use std::time::UNIX_EPOCH;

use engine::{About, ModelCard, SamplingChoices};

use super::default_sampling::DefaultSampling;

/// A loaded model, as far as it is told.
#[derive(Debug)]
pub(crate) struct ServedModel {
    pub(crate) id: String,
    /// When it was loaded, in seconds since 1970.
    pub(crate) loaded_at: u64,
    /// Tokens that one request may have.
    pub(crate) context: usize,
    /// Tokens that it was trained for.
    pub(crate) trained_context: usize,
    pub(crate) has_chat_template: bool,
    pub(crate) file_bytes: u64,
    /// What its file says of itself.
    pub(crate) about: About,
    /// What stands for its weights, and how they are computed with.
    pub(crate) fingerprint: [u8; 32],
    /// What a request is sampled with that says nothing.
    pub(crate) sampling: DefaultSampling,
}

impl ServedModel {
    /// The model of `card`, sampled by the settings where they say.
    pub(crate) fn new(card: &ModelCard, settings: &SamplingChoices) -> ServedModel {
        ServedModel {
            id: card.name.clone(),
            loaded_at: card.loaded_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            context: card.effective_context,
            trained_context: card.trained_context,
            has_chat_template: card.text.has_chat_template(),
            file_bytes: card.file_bytes,
            about: card.about.clone(),
            fingerprint: card.fingerprint,
            sampling: DefaultSampling::new(settings, card),
        }
    }
}
