//! What the fuzz targets drive: the readers of every API's bodies, and the renderers of chats.

#![allow(clippy::missing_panics_doc, reason = "a panic is a finding")]

use std::sync::Arc;

use text::{Asked, Chat, RenderedText, TextError, TextModel};

use crate::calls::fault::Fault;
use crate::calls::render_workers::RenderWorkers;
use crate::calls::signing_key::SigningKey;
use crate::dialects::anthropic::{ANTHROPIC, messages_call};
use crate::dialects::dialect::Dialect;
use crate::dialects::ollama::{OLLAMA, chat_call, embed_call, generate_call};
use crate::dialects::openai::{OPENAI, chat, completions, embeddings};
use crate::dialects::responses::responses_call;
use crate::kept::diary::RequestDiary;
use crate::kept::kept_responses::{KeptResponses, OwnShelf, Owner};

/// Bytes of a refusal: it names what is wrong and does not repeat it.
const MAX_REFUSAL_BYTES: usize = 4 << 10;
const KEY: [u8; 32] = [7; 32];

/// A body of arbitrary bytes: it is a call, or is refused as its API refuses, as the client's fault.
///
/// The first byte says whose body it is.
pub fn request(input: &[u8]) {
    let Some((api, body)) = input.split_first() else { return };
    let key = SigningKey::new(KEY);
    let shelf = || Arc::new(OwnShelf { owner: Owner::of(None), kept: Arc::new(KeptResponses::default()) });
    let (dialect, refused) = match api % 10 {
        0 => (&OPENAI, chat::parse(body).err()),
        1 => (&OPENAI, completions::parse(body).err()),
        2 => (&OPENAI, embeddings::parse(body).err()),
        3 => (&OPENAI, responses_call::parse(body, key, shelf()).err()),
        4 => (&ANTHROPIC, messages_call::parse(body, key, Arc::new(RequestDiary::default())).err()),
        5 => (&ANTHROPIC, messages_call::parse_count(body, key).err()),
        6 => (&OLLAMA, chat_call::parse(body).err()),
        7 => (&OLLAMA, generate_call::parse(body).err()),
        8 => (&OLLAMA, embed_call::parse(body).err()),
        _ => (&OLLAMA, embed_call::parse_older(body).err()),
    };
    if let Some(refused) = refused {
        check(dialect, &refused);
    }
}

fn check(dialect: &Dialect, refused: &Fault) {
    let written = (dialect.fault)(refused, "r");
    assert!(written.status.is_client_error(), "{written:?}");
    assert!(written.body.len() <= MAX_REFUSAL_BYTES, "{} bytes", written.body.len());
    let body: serde_json::Value = serde_json::from_str(&written.body).expect("JSON");
    let error = &body["error"];
    let message = error.as_str().or_else(|| error["message"].as_str());
    assert!(message.is_some_and(|message| !message.is_empty()), "{body}");
}

/// Renders a chat as a call's is.
///
/// # Errors
/// As the model's template has it.
pub fn render(workers: &RenderWorkers, model: &TextModel, chat: &Chat) -> Result<RenderedText, TextError> {
    workers.render(model, chat, Asked::TextAndPoints, &|| false)
}
