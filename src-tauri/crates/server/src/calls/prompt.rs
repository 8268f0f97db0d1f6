//! From what a client sends to tokens that a model can take.

use std::sync::Arc;

use engine::{EncodedPrompt, EngineHandle, ModelCard, PromptError, PromptNotes};
use text::{TextError, TokenId};

use super::call::{Names, Prompt};
use super::fault::Fault;
use super::render_workers::RenderWorkers;

/// Tokens that are all in the model's vocabulary, one at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedPrompt {
    tokens: Vec<TokenId>,
    notes: PromptNotes,
}

impl CheckedPrompt {
    /// # Errors
    /// There are none, or one is none of the model's.
    fn new(encoded: EncodedPrompt, card: &ModelCard) -> Result<CheckedPrompt, String> {
        let EncodedPrompt { tokens, notes } = encoded;
        if tokens.is_empty() {
            return Err("the prompt is empty".to_owned());
        }
        check_vocabulary(tokens.iter().copied(), card)?;
        Ok(CheckedPrompt { tokens, notes })
    }

    /// Its tokens, and what is known of how they were put together.
    pub(crate) fn into_parts(self) -> (Vec<TokenId>, PromptNotes) {
        (self.tokens, self.notes)
    }
}

/// That the model has all these tokens.
///
/// # Errors
/// It does not; the words say which and how many there are.
pub(crate) fn check_vocabulary(
    mut tokens: impl Iterator<Item = TokenId>,
    card: &ModelCard,
) -> Result<(), String> {
    let n_vocab = card.text.n_vocab();
    match tokens.find(|token| *token as usize >= n_vocab) {
        Some(outside) => Err(format!("token {outside} is not in the vocabulary of {n_vocab}")),
        None => Ok(()),
    }
}

/// Who makes tokens of a prompt.
#[derive(Clone)]
pub(crate) struct Encoders {
    pub(crate) engine: EngineHandle,
    pub(crate) render_workers: Arc<RenderWorkers>,
}

impl Encoders {
    /// Render, tokenise and check a prompt. Takes as long as the prompt is long, and ends early once `is_abandoned`.
    ///
    /// # Errors
    /// It is too long, there is no template or it fails or refuses the chat, a token is not in the vocabulary, or
    /// nothing is left. The fault is about the prompt, by the name that the API has for it.
    pub(crate) fn encode(
        &self,
        prompt: Prompt,
        names: Names,
        card: &ModelCard,
        is_abandoned: &(dyn Fn() -> bool + Sync),
    ) -> Result<CheckedPrompt, Fault> {
        let failed = |error| of_prompt(error, names, card);
        check_length(&prompt, card).map_err(failed)?;
        let encoded = match prompt {
            Prompt::Chat(chat) => {
                let rendered = self.render_workers.render(&card.text, &chat, is_abandoned);
                drop(chat);
                let rendered = rendered.map_err(|error| of_text(error, names, card))?;
                self.engine.encode_rendered(card, &card.text.rendered_chat(&rendered), is_abandoned)
            }
            Prompt::Text(text) => self.engine.encode_raw(card, &text, is_abandoned),
            Prompt::Tokens(tokens) => Ok(EncodedPrompt { tokens, notes: PromptNotes::default() }),
        };
        CheckedPrompt::new(encoded.map_err(failed)?, card)
            .map_err(|message| Fault::invalid(names.prompt, message))
    }
}

/// That it may fit the effective context, judged by its length alone: what cannot fit is neither rendered nor
/// tokenised. A chat's length is that of its contents as they were sent, whatever its template leaves of them.
fn check_length(prompt: &Prompt, card: &ModelCard) -> Result<(), PromptError> {
    match prompt {
        // Without a template it is not the length that is in the way.
        Prompt::Chat(_) if !card.text.has_chat_template() => Ok(()),
        Prompt::Chat(chat) => card.check_length(chat.messages.iter().map(|message| message.content.as_str())),
        Prompt::Text(text) => card.check_length([text.as_str()]),
        Prompt::Tokens(tokens) => card.check_tokens(tokens),
    }
}

fn of_prompt(error: PromptError, names: Names, card: &ModelCard) -> Fault {
    match error {
        PromptError::Text(error) => of_text(error, names, card),
        PromptError::TooLong { at_least, limit } => {
            Fault::too_long_at_least(at_least, limit).at(names.prompt)
        }
        // Nobody reads it.
        PromptError::Abandoned => Fault::bad_request("the client went away"),
    }
}

/// Why a chat cannot be shown to the model, with the model whose fault it may be.
fn of_text(error: TextError, names: Names, card: &ModelCard) -> Fault {
    let message = error.to_string();
    match error {
        TextError::NoChatTemplate => Fault::no_chat_template(&message).at(names.prompt),
        TextError::Refused(_) => Fault::invalid(names.prompt, message),
        TextError::Template(fault) if card.template_fault.is_some() => {
            Fault::chat_template_broken(&card.name, &fault)
        }
        TextError::Template(fault) => Fault::chat_template_failed(&card.name, &fault).at(names.prompt),
        TextError::Vocabulary(_) | TextError::Unsupported(_) => Fault::broken_model(message),
    }
}
