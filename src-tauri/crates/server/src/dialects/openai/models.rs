//! `/v1/models`: the loaded model, and what fits into it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use engine::ModelCard;
use serde_json::{Value, json};

use crate::calls::default_sampling::sampling_by_default;
use crate::calls::fault::ApiError;
use crate::router::App;

/// The loaded model, or an empty list while there is none.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let models: Vec<Value> = app.engine.card().iter().map(|card| describe(&app, card)).collect();
    Json(json!({"object": "list", "data": models}))
}

pub(crate) async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    match app.engine.card().filter(|card| is_name_of(&app, card, &id)) {
        Some(card) => Json(describe(&app, &card)).into_response(),
        None => ApiError::unknown_model(&id).into_response(),
    }
}

/// Whether `name` means the loaded model: its id, or one of the configured aliases.
pub(crate) fn is_name_of(app: &App, card: &ModelCard, name: &str) -> bool {
    let config = &app.config;
    name == card.name
        || config.model_aliases.iter().any(|alias| alias == name)
        || config.model_patterns.iter().any(|pattern| fits(pattern, name))
}

/// Whether `name` is what `pattern` says, in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return name.ends_with(piece);
        }
        // The first place is as good as any: it leaves most for the pieces that follow.
        match name.find(piece) {
            Some(at) => name = &name[at + piece.len()..],
            None => return false,
        }
    }
    true
}

/// What OpenAI says of a model, and how long its context is, in the words of those who say it.
fn describe(app: &App, card: &ModelCard) -> Value {
    json!({
        "id": card.name,
        "object": "model",
        "created": card.loaded_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        "owned_by": "samovar",
        "context_length": card.effective_context,
        "max_model_len": card.effective_context,
        "trained_context_length": card.trained_context,
        "has_chat_template": card.text.has_chat_template(),
        "file_bytes": card.file_bytes,
        "sampling": sampling_by_default(&app.config.sampling, card),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_everything_else_for_itself() {
        for (pattern, name, want) in [
            ("gpt-4*", "gpt-4o-mini", true),
            ("gpt-4*", "gpt-4", true),
            ("gpt-4*", "gpt-3.5", false),
            ("gpt-4*", "my-gpt-4", false),
            ("*", "anything", true),
            ("claude-*-latest", "claude-3-5-sonnet-latest", true),
            ("claude-*-latest", "claude-latest", false),
            ("*mini*", "o3-mini-high", true),
            ("a*b*c", "a-c-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("**", "x", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("gpt.4", "gpt-4", false),
            ("modèle*", "modèle-é", true),
        ] {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
    }
}
