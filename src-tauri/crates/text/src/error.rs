//! Why a vocabulary or a chat cannot be used, by what the caller can do about it.

use serde::{Deserialize, Serialize};

/// What can go wrong between text and tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TextError {
    /// The model file's vocabulary is broken; the model cannot be loaded.
    #[error("the model's vocabulary is broken: {0}")]
    Vocabulary(String),
    /// The model file's vocabulary is of a kind that is not supported; the model cannot be loaded.
    #[error("the model's vocabulary is not supported: {0}")]
    Unsupported(String),
    /// The model has no chat template; only raw completions work.
    #[error("this model has no chat template")]
    NoChatTemplate,
    /// The template refuses this conversation, in the template's own words; the client must change it.
    #[error("the model's chat template refuses these messages: {0}")]
    Refused(String),
    /// The template itself is broken or went over its limits.
    #[error("the model's chat template failed: {0}")]
    Template(String),
}
