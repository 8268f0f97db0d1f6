//! Generated answers, remembered so that their ids are taken again when a client sends their text back.
//!
//! What text would tokenise to need not be what was generated: sampling picks other splits, a stop string cuts a
//! token, a template trims. The lookup is by content, see `scheduler::AnswerIndex`; in a raw prompt that goes on with
//! an answer, `scheduler::AnswerStarts` finds where it starts.

use std::sync::{Mutex, PoisonError};

use scheduler::{AnswerIndex, AnswerStarts, AnswerToken, TokenId, splice_prompt};
use text::{Chat, RenderedChat, TextError, TextModel};

use crate::loader::ModelCard;
use crate::request::PromptNotes;

/// Ids and bytes of answers that are remembered; a conversation of 1,000 answered tokens takes some 20 kB.
const MAX_BYTES: usize = 32 << 20;

/// A prompt as the engine takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// The prompt, with remembered ids where earlier answers come back unchanged.
    pub tokens: Vec<TokenId>,
    /// Where its messages end, and how many of its tokens were remembered.
    pub notes: PromptNotes,
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

    /// Render and tokenise a chat.
    ///
    /// # Errors
    /// As `TextModel::render_chat`.
    pub(crate) fn encode_chat(&self, card: &ModelCard, chat: &Chat) -> Result<EncodedPrompt, TextError> {
        Ok(self.splice(card, &card.text.render_with_landmarks(chat)?))
    }

    /// Tokenise a raw prompt, in which special tokens may be written.
    pub(crate) fn encode_raw(&self, card: &ModelCard, text: &str) -> EncodedPrompt {
        let starts = {
            let of_model = self.of_model.lock().unwrap_or_else(PoisonError::into_inner);
            of_model.as_ref().map_or_else(Vec::new, |of_model| of_model.starts.find(text.as_bytes()))
        };
        self.splice(card, &card.text.raw_with_answers(text, starts))
    }

    fn splice(&self, card: &ModelCard, rendered: &RenderedChat) -> EncodedPrompt {
        let mut message_ends = Vec::new();
        let spliced = splice_prompt(
            card.fingerprint,
            rendered.text(),
            rendered.answer_starts(),
            &mut |range, n_before| {
                let mut piece = card.text.encode_piece(rendered, range);
                let n_own = piece.tokens.len();
                if n_before == 0 {
                    piece.tokens = card.text.with_bos(piece.tokens);
                }
                let n_before = n_before + piece.tokens.len() - n_own;
                message_ends.extend(piece.message_ends.iter().map(|n| n_before + n));
                piece.tokens
            },
            &mut |key, text| {
                // A key of another model's fingerprint is in no index but its own.
                let mut of_model = self.of_model.lock().unwrap_or_else(PoisonError::into_inner);
                of_model.as_mut().and_then(|of_model| of_model.index.splice(key, text))
            },
        );
        message_ends.extend(spliced.answer_positions);
        message_ends.sort_unstable();
        message_ends.dedup();
        EncodedPrompt {
            tokens: spliced.tokens,
            notes: PromptNotes { message_ends, n_spliced: spliced.n_spliced, spliced: spliced.spliced },
        }
    }
}
