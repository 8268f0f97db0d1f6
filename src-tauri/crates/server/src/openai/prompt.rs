//! From what a client sends to tokens: the chat template and the vocabulary, off the async threads.

use std::sync::Arc;

use engine::{EncodedPrompt, EngineHandle, ModelCard, PromptNotes, RequestId};
use text::{Chat, Constraint, OutputFormat, TokenId};
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
    fn into_tokens(
        self,
        card: &ModelCard,
        engine: &EngineHandle,
    ) -> Result<(Vec<TokenId>, PromptNotes), ApiError> {
        let param = self.param();
        let (tokens, notes) = match self {
            Prompt::Chat(chat) => {
                let EncodedPrompt { tokens, notes } = engine.encode_chat(card, &chat)?;
                (tokens, notes)
            }
            Prompt::Text(text) => {
                let EncodedPrompt { tokens, notes } = engine.encode_raw(card, &text);
                (tokens, notes)
            }
            Prompt::Tokens(tokens) => {
                let n_vocab = card.text.n_vocab();
                match tokens.iter().find(|token| **token as usize >= n_vocab) {
                    Some(token) => {
                        let message = format!("token {token} is not in the vocabulary of {n_vocab}");
                        return Err(ApiError::invalid(param, message));
                    }
                    None => (tokens, PromptNotes::default()),
                }
            }
        };
        if tokens.is_empty() {
            Err(ApiError::invalid(param, "the prompt is empty"))
        } else {
            Ok((tokens, notes))
        }
    }
}

/// What the engine needs of a prompt and the wanted answer.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) tokens: Vec<TokenId>,
    pub(super) notes: PromptNotes,
    /// What holds the answer to its format.
    pub(super) constraint: Option<Constraint>,
}

/// Render and tokenise, and build what holds the answer to its format; only a few prompts at a time, so that the
/// engine keeps its cores.
///
/// # Errors
/// As [`Prompt::into_tokens`]; the schema cannot be used; a fault when template, tokenizer or grammar panics.
pub(super) async fn prepare(
    app: &App,
    card: &Arc<ModelCard>,
    prompt: Prompt,
    format: Option<OutputFormat>,
    id: &RequestId,
) -> Result<Prepared, ApiError> {
    // The semaphore is never closed.
    let seat = Arc::clone(&app.tokenizing).acquire_owned().await;
    let (card, engine) = (Arc::clone(card), app.engine.clone());
    let work = spawn_blocking(move || {
        let _seat = seat;
        let constraint = format.map(|format| card.text.constraint(&format)).transpose()?;
        let (tokens, notes) = prompt.into_tokens(&card, &engine)?;
        Ok(Prepared { tokens, notes, constraint })
    });
    work.await.unwrap_or_else(|error| {
        tracing::error!(request_id = %id, %error, "preparing a prompt failed");
        Err(ApiError::fault(&id.0))
    })
}
