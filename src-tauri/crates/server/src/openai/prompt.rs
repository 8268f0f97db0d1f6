//! From what a client sends to tokens: the chat template and the vocabulary, off the async threads.

use std::sync::Arc;

use engine::{ModelCard, RequestId};
use text::{Chat, TokenId};
use tokio::task::spawn_blocking;

use crate::errors::ApiError;
use crate::router::App;

/// A prompt as a client gives it.
#[derive(Debug)]
pub(super) enum Prompt {
    /// Messages for the chat template.
    Chat(Chat),
    /// Text, taken as it is.
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<TokenId>),
}

impl Prompt {
    /// The field that a complaint about it names.
    pub(super) fn param(&self) -> &'static str {
        match self {
            Prompt::Chat(_) => "messages",
            Prompt::Text(_) | Prompt::Tokens(_) => "prompt",
        }
    }

    /// # Errors
    /// There is no template or it refuses the chat, a token is not in the vocabulary, or nothing is left.
    fn into_tokens(self, card: &ModelCard) -> Result<Vec<TokenId>, ApiError> {
        let param = self.param();
        let tokens = match self {
            Prompt::Chat(chat) => card.text.encode_chat(&chat)?,
            Prompt::Text(text) => card.text.encode_raw(&text),
            Prompt::Tokens(tokens) => {
                let n_vocab = card.text.n_vocab();
                match tokens.iter().find(|token| **token as usize >= n_vocab) {
                    Some(token) => {
                        let message = format!("token {token} is not in the vocabulary of {n_vocab}");
                        return Err(ApiError::invalid(param, message));
                    }
                    None => tokens,
                }
            }
        };
        if tokens.is_empty() { Err(ApiError::invalid(param, "the prompt is empty")) } else { Ok(tokens) }
    }
}

/// Render and tokenise; only a few prompts at a time, so that the engine keeps its cores.
///
/// # Errors
/// As [`Prompt::into_tokens`]; a fault when the template or the tokenizer panics.
pub(super) async fn tokenize(
    app: &App,
    card: &Arc<ModelCard>,
    prompt: Prompt,
    id: &RequestId,
) -> Result<Vec<TokenId>, ApiError> {
    // The semaphore is never closed.
    let seat = Arc::clone(&app.tokenizing).acquire_owned().await;
    let card = Arc::clone(card);
    let work = spawn_blocking(move || {
        let _seat = seat;
        prompt.into_tokens(&card)
    });
    work.await.unwrap_or_else(|error| {
        tracing::error!(request_id = %id, %error, "tokenising a prompt failed");
        Err(ApiError::fault(&id.0))
    })
}
