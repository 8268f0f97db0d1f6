//! Generated answers, remembered so that their ids are taken again when a client sends their text back.
//!
//! What text would tokenise to need not be what was generated: sampling picks other splits, a stop string cuts a
//! token, a template trims. The lookup is by content, see `scheduler::AnswerIndex`; in a raw prompt that goes on with
//! an answer, `scheduler::AnswerStarts` finds where it starts.

use std::sync::{Mutex, PoisonError};

use scheduler::{AnswerIndex, AnswerStarts, AnswerToken, TokenId, splice_prompt};
use text::{Chat, EncodeError, EncodeLimits, RenderedChat, TextError, TextModel};

use crate::loader::ModelCard;
use crate::request::PromptNotes;

/// Ids and bytes of answers that are remembered; a conversation of 1,000 answered tokens takes some 20 kB.
const MAX_BYTES: usize = 32 << 20;

/// Bytes or tokens that a prompt is counted to though they may not fit: up to here the one who sent it is told exactly
/// how many tokens it has, and so how many it must do without.
const COUNTED: usize = 64 << 10;

/// A prompt as the engine takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// The prompt, with remembered ids where earlier answers come back unchanged.
    pub tokens: Vec<TokenId>,
    /// Where its messages end, and how many of its tokens were remembered.
    pub notes: PromptNotes,
}

/// Why there is no prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The chat cannot be rendered.
    #[error(transparent)]
    Text(#[from] TextError),
    /// It does not fit the effective context. That is found out before it is encoded to its end, so the number is
    /// one that it has at least.
    #[error("the prompt has {at_least} tokens or more and the context holds {limit}")]
    TooLong {
        /// Tokens that it has at least.
        at_least: usize,
        /// The effective context.
        limit: usize,
    },
    /// Nobody waits for it any more.
    #[error("nobody waits for the prompt")]
    Abandoned,
}

impl ModelCard {
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

    /// That a list of tokens is not beyond what is counted and passed on.
    ///
    /// # Errors
    /// It is too long.
    pub fn check_tokens(&self, tokens: &[TokenId]) -> Result<(), PromptError> {
        let (at_least, limit) = (tokens.len(), self.effective_context);
        if at_least > limit.max(COUNTED) { Err(PromptError::TooLong { at_least, limit }) } else { Ok(()) }
    }

    fn prompt_error(&self, error: EncodeError) -> PromptError {
        match error {
            EncodeError::TooLong { at_least } => {
                PromptError::TooLong { at_least, limit: self.effective_context }
            }
            EncodeError::Abandoned => PromptError::Abandoned,
        }
    }
}

/// The answers of the loaded model.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Guards the answers between the engine thread, which records one that has ended, and those who encode
    /// prompts; held for one lookup or one record, never while a text is tokenised.
    of_model: Mutex<Option<OfModel>>,
}

#[derive(Debug)]
struct OfModel {
    fingerprint: [u8; 32],
    index: AnswerIndex,
    starts: AnswerStarts,
}

impl Answers {
    /// The model with this fingerprint answers from now on; of another one nothing is remembered.
    pub(crate) fn begin(&self, fingerprint: [u8; 32]) {
        let mut of_model = self.of_model.lock().unwrap_or_else(PoisonError::into_inner);
        if of_model.as_ref().is_none_or(|of_model| of_model.fingerprint != fingerprint) {
            let index = AnswerIndex::new(fingerprint, MAX_BYTES);
            *of_model = Some(OfModel { fingerprint, index, starts: AnswerStarts::default() });
        }
    }

    /// Remember what was generated after exactly `before`.
    pub(crate) fn record(&self, text: &TextModel, before: &[TokenId], answer: &[AnswerToken]) {
        let text_before = text.raw_text(before);
        let text_of_answer: Vec<u8> = answer.iter().flat_map(|token| &token.bytes).copied().collect();
        let mut of_model = self.of_model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(OfModel { index, starts, .. }) = of_model.as_mut() {
            index.record(before, answer);
            starts.record(&text_before, &text_of_answer);
        }
    }

    /// Render and tokenise a chat, as long as it fits the effective context and is not abandoned.
    ///
    /// # Errors
    /// It cannot be rendered or is too long, or nobody waits for it.
    pub(crate) fn encode_chat(
        &self,
        card: &ModelCard,
        chat: &Chat,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        self.encode_rendered(card, &card.text.render_with_landmarks(chat)?, is_abandoned)
    }

    /// Tokenise a rendered chat, within the same limits.
    ///
    /// # Errors
    /// It is too long, or nobody waits for it.
    pub(crate) fn encode_rendered(
        &self,
        card: &ModelCard,
        rendered: &RenderedChat,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        self.splice(card, rendered, is_abandoned)
    }

    /// Tokenise a raw prompt, in which special tokens may be written, within the same limits.
    ///
    /// # Errors
    /// It is too long, or nobody waits for it.
    pub(crate) fn encode_raw(
        &self,
        card: &ModelCard,
        text: &str,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        card.check_length([text])?;
        let starts = {
            let of_model = self.of_model.lock().unwrap_or_else(PoisonError::into_inner);
            of_model.as_ref().map_or_else(Vec::new, |of_model| of_model.starts.find(text.as_bytes()))
        };
        let limits = EncodeLimits { max_tokens: card.effective_context.max(COUNTED), is_abandoned };
        if starts.is_empty() {
            let tokens = card.text.encode_raw_within(text, limits);
            let tokens = tokens.map_err(|error| card.prompt_error(error))?;
            return Ok(EncodedPrompt { tokens, notes: PromptNotes::default() });
        }
        let rendered = card.text.raw_with_answers(text, starts, limits.max_tokens);
        self.splice(card, &rendered.map_err(|error| card.prompt_error(error))?, is_abandoned)
    }

    fn splice(
        &self,
        card: &ModelCard,
        rendered: &RenderedChat,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        card.check_length([rendered.text()])?;
        let most = card.effective_context.max(COUNTED);
        let mut message_ends = Vec::new();
        let spliced = splice_prompt(
            card.fingerprint,
            rendered.text(),
            rendered.answer_starts(),
            &mut |range, n_before| {
                let limits = EncodeLimits { max_tokens: most.saturating_sub(n_before), is_abandoned };
                let piece = card.text.encode_piece(rendered, range, limits);
                let mut piece = piece.map_err(|error| match error {
                    EncodeError::TooLong { at_least } => {
                        EncodeError::TooLong { at_least: n_before + at_least }
                    }
                    EncodeError::Abandoned => error,
                })?;
                let n_own = piece.tokens.len();
                if n_before == 0 {
                    piece.tokens = card.text.with_bos(piece.tokens);
                }
                let n_before = n_before + piece.tokens.len() - n_own;
                message_ends.extend(piece.message_ends.iter().map(|n| n_before + n));
                Ok(piece.tokens)
            },
            &mut |key, text| {
                // A key of another model's fingerprint is in no index but its own.
                let mut of_model = self.of_model.lock().unwrap_or_else(PoisonError::into_inner);
                of_model.as_mut().and_then(|of_model| of_model.index.splice(key, text))
            },
        );
        let spliced = spliced.map_err(|error| card.prompt_error(error))?;
        message_ends.extend(spliced.answer_positions);
        message_ends.sort_unstable();
        message_ends.dedup();
        Ok(EncodedPrompt {
            tokens: spliced.tokens,
            notes: PromptNotes { message_ends, n_spliced: spliced.n_spliced, spliced: spliced.spliced },
        })
    }
}
