//! What everybody may know of a loaded model.

use std::sync::Arc;
use std::time::SystemTime;

use scheduler::{EmbedSpec, LayerKv, ModelCacheSpec, TokenId};
use text::{Asked, EncodeError, TextModel};

use super::backend::ServedBy;
use super::prompt::PromptError;
use super::request::Refusal;
use super::sampling_choices::SamplingChoices;

/// Bytes or tokens that a prompt is counted to though they may not fit: up to here the one who sent it is told exactly
/// how many tokens it has, and so how many it must do without.
pub(crate) const COUNTED: usize = 64 << 10;

/// What a model's file says of itself, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The architecture's name in the file.
    pub architecture: String,
    /// What the model is called without its size and form.
    pub basename: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// How many weights it has.
    pub n_parameters: u64,
    /// How most of them are stored, `Q4_K` for example.
    pub quantization: String,
    /// When the file was written last, where that is known.
    pub modified_at: Option<SystemTime>,
}

/// A loaded model, described.
pub struct ModelCard {
    /// The id in `/v1/models`.
    pub name: String,
    /// What requests may call it besides that.
    pub aliases: Vec<String>,
    /// What it is for.
    pub purpose: Purpose,
    /// Vocabulary and chat template.
    pub text: Arc<TextModel>,
    /// What is wrong with the chat template, found when it was tried with one plain message.
    pub template_fault: Option<String>,
    /// Positions that the model was trained for.
    pub trained_context: usize,
    /// Tokens that one request, or one text of it, may have: the smaller of the model's context and the pool's.
    pub effective_context: usize,
    /// To where in an earlier prompt it can go back.
    pub goes_back: GoesBack,
    /// Salt of the prefix hashes: the model's fingerprint.
    pub fingerprint: [u8; 32],
    /// Bytes of the weights' file.
    pub file_bytes: u64,
    /// What its file says of itself, for people.
    pub about: About,
    /// How its makers recommend to sample it.
    pub sampling: SamplingChoices,
    /// What computes it.
    pub served_by: ServedBy,
    /// When it was loaded.
    pub loaded_at: SystemTime,
}

/// To where a later prompt can go back in what a model keeps of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoesBack {
    /// To any token: every layer has the keys and values of each.
    Anywhere,
    /// Only to where something was kept on purpose: a recurrent layer's state, or the blocks of a window.
    WhereKept,
}

impl GoesBack {
    /// Of a model with these layers.
    pub fn of(spec: &ModelCacheSpec) -> GoesBack {
        let needs_kept = |layer: &LayerKv| match layer {
            LayerKv::Own(cache) => cache.span.window().is_some(),
            LayerKv::State(_) => true,
            LayerKv::Of(_) | LayerKv::Nothing => false,
        };
        if spec.layers.iter().any(needs_kept) { GoesBack::WhereKept } else { GoesBack::Anywhere }
    }
}

/// What a model is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To go on with chats and texts.
    Generate,
    /// To give texts their vectors.
    Embed(EmbedSpec),
}

crate::names! {
    pub Purpose {
        Generate => "generate",
        Embed => "embed",
    }
}

impl ModelCard {
    /// What its vectors are like, if it is one that gives some.
    pub fn embedding(&self) -> Option<&EmbedSpec> {
        match &self.purpose {
            Purpose::Generate => None,
            Purpose::Embed(spec) => Some(spec),
        }
    }

    /// What a chat's rendering is asked for, so that later prompts can come back to it.
    pub fn asked(&self) -> Asked {
        match self.goes_back {
            GoesBack::Anywhere => Asked::Text,
            GoesBack::WhereKept => Asked::TextAndPoints,
        }
    }

    /// Why it goes on with nothing: it is an encoder.
    pub fn refuses_to_generate(&self) -> Refusal {
        let message = format!(
            "the model '{}' gives texts their vectors and generates nothing: ask it at /v1/embeddings",
            self.name
        );
        Refusal::WrongPurpose { message }
    }

    /// Why it gives no vectors: it is no encoder.
    pub fn refuses_to_embed(&self) -> Refusal {
        let message = format!(
            "the model '{}' generates text and gives no embeddings: that is for a model made for it, as bert, \
             nomic-bert and gemma-embedding are",
            self.name
        );
        Refusal::WrongPurpose { message }
    }

    /// Whether these texts can be a prompt at all: what is longer than the effective context of the longest tokens
    /// need not be looked at.
    ///
    /// # Errors
    /// They cannot.
    pub fn check_length<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a str, IntoIter: Clone>,
    ) -> Result<(), PromptError> {
        let texts = texts.into_iter();
        if texts.clone().map(str::len).sum::<usize>() <= COUNTED {
            return Ok(());
        }
        let (at_least, limit) = (self.text.fewest_tokens(texts), self.effective_context);
        if at_least > limit { Err(PromptError::TooLong { at_least, limit }) } else { Ok(()) }
    }

    /// Tokens up to which a prompt is counted, whether they fit or not.
    pub fn most_counted(&self) -> usize {
        self.effective_context.max(COUNTED)
    }

    /// That a list of tokens is not beyond what is counted and passed on.
    ///
    /// # Errors
    /// It is too long.
    pub fn check_tokens(&self, tokens: &[TokenId]) -> Result<(), PromptError> {
        let (at_least, limit) = (tokens.len(), self.effective_context);
        if at_least > limit.max(COUNTED) { Err(PromptError::TooLong { at_least, limit }) } else { Ok(()) }
    }

    pub(crate) fn prompt_error(&self, error: EncodeError) -> PromptError {
        match error {
            EncodeError::TooLong { at_least } => {
                PromptError::TooLong { at_least, limit: self.effective_context }
            }
            EncodeError::Abandoned => PromptError::Abandoned,
        }
    }
}
