//! Generated answers, remembered so that their ids are taken again when a client sends their text back.
//!
//! What text would tokenise to need not be what was generated: sampling picks other splits, a stop string cuts a
//! token, a template trims. The lookup is by content, see `scheduler::AnswerIndex`; in a raw prompt that goes on with
//! an answer, `scheduler::AnswerStarts` finds where it starts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler::{AnswerIndex, AnswerStarts, AnswerToken, TokenId, splice_prompt};
use text::{Chat, EncodeError, EncodeLimits, RenderedChat, TextModel};

use crate::told::card::{COUNTED, ModelCard};
use crate::told::prompt::{EncodedPrompt, PromptError, PromptNotes};

/// Ids and bytes of answers that are remembered; a conversation of 1,000 answered tokens takes some 20 kB.
const MAX_BYTES: usize = 32 << 20;

/// The answers of one model.
pub(crate) struct Answers {
    fingerprint: [u8; 32],
    text: Arc<TextModel>,
    /// Guards the answers between the engine thread, which records one that has ended, and those who encode
    /// prompts; held for one lookup or one record, never while a text is tokenised.
    remembered: Mutex<Remembered>,
}

struct Remembered {
    index: AnswerIndex,
    starts: AnswerStarts,
}

impl Answers {
    /// None yet, of a model with this fingerprint and vocabulary.
    pub(crate) fn new(fingerprint: [u8; 32], text: Arc<TextModel>) -> Answers {
        let index = AnswerIndex::new(fingerprint, MAX_BYTES);
        let remembered = Mutex::new(Remembered { index, starts: AnswerStarts::default() });
        Answers { fingerprint, text, remembered }
    }

    /// Whose answers these are.
    pub(crate) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The vocabulary that they are written in.
    pub(crate) fn text(&self) -> &TextModel {
        &self.text
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remember what was generated after exactly `before`.
    pub(crate) fn record(&self, before: &[TokenId], answer: &[AnswerToken]) {
        let text_before = self.text.raw_text(before);
        let text_of_answer: Vec<u8> = answer.iter().flat_map(|token| &token.bytes).copied().collect();
        let mut remembered = self.remembered();
        remembered.index.record(before, answer);
        remembered.starts.record(&text_before, &text_of_answer);
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
        let starts = self.remembered().starts.find(text.as_bytes());
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
            &mut |key, text| self.remembered().index.splice(key, text),
        );
        let spliced = spliced.map_err(|error| card.prompt_error(error))?;
        message_ends.extend(spliced.answer_positions);
        message_ends.sort_unstable();
        message_ends.dedup();
        Ok(EncodedPrompt {
            tokens: spliced.tokens,
            notes: PromptNotes {
                message_ends,
                n_spliced: spliced.n_spliced,
                spliced: spliced.spliced,
                ..PromptNotes::default()
            },
        })
    }
}
