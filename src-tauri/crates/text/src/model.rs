//! The text side of one model: what engine and server hold.

use crate::{Chat, Detokenizer, TextError, TextMetadata, TokenId};

/// Vocabulary and chat template of one model; built once, shared by all threads.
#[derive(Debug)]
pub struct TextModel {}

impl TextModel {
    /// Builds the vocabulary and compiles the chat template.
    ///
    /// # Errors
    /// When the vocabulary is broken or of a kind that is not supported, or the template does not compile.
    pub fn new(meta: TextMetadata) -> Result<TextModel, TextError> {
        let _ = meta;
        todo!()
    }

    /// Number of tokens in the vocabulary.
    pub fn n_vocab(&self) -> usize {
        todo!()
    }

    /// A raw prompt: BOS as the model wants it, special tokens written in the text are taken as such.
    pub fn encode_raw(&self, text: &str) -> Vec<TokenId> {
        let _ = text;
        todo!()
    }

    /// Plain text: no BOS, no control token whatever the text says.
    pub fn encode_plain(&self, text: &str) -> Vec<TokenId> {
        let _ = text;
        todo!()
    }

    /// Whether the model can chat.
    pub fn has_chat_template(&self) -> bool {
        todo!()
    }

    /// Renders the chat and encodes it; special tokens written in the client's values stay plain text.
    ///
    /// # Errors
    /// As [`TextModel::render_chat`].
    pub fn encode_chat(&self, chat: &Chat) -> Result<Vec<TokenId>, TextError> {
        let _ = chat;
        todo!()
    }

    /// The chat as the template writes it, for inspection.
    ///
    /// # Errors
    /// When there is no template, when it refuses the messages, fails, or goes over its limits.
    pub fn render_chat(&self, chat: &Chat) -> Result<String, TextError> {
        let _ = chat;
        todo!()
    }

    /// Whether this token ends an answer.
    pub fn is_end_of_generation(&self, id: TokenId) -> bool {
        let _ = id;
        todo!()
    }

    /// The bytes that a token stands for in text; none for control tokens and ids out of range.
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        let _ = id;
        todo!()
    }

    /// A fresh detokenizer for text that follows `prompt_tail`.
    pub fn detokenizer(&self, prompt_tail: &[TokenId]) -> Detokenizer {
        let _ = prompt_tail;
        todo!()
    }
}
