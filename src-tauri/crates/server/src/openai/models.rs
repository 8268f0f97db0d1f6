//! `/v1/models`: the loaded model, and what fits into it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use engine::ModelCard;
use serde_json::{Value, json};

use crate::errors::ApiError;
use crate::router::App;

/// The loaded model, or an empty list while there is none.
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let models: Vec<Value> = app.engine.card().iter().map(|card| describe(card)).collect();
    Json(json!({"object": "list", "data": models}))
}

pub(super) async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    match app.engine.card().filter(|card| is_name_of(&app, card, &id)) {
        Some(card) => Json(describe(&card)).into_response(),
        None => ApiError::unknown_model(&id).into_response(),
    }
}

/// Whether `name` means the loaded model: its id, or one of the configured aliases.
pub(super) fn is_name_of(app: &App, card: &ModelCard, name: &str) -> bool {
    name == card.name || app.config.model_aliases.iter().any(|alias| alias == name)
}

/// What OpenAI says of a model, and how long its context is, in the words of those who say it.
fn describe(card: &ModelCard) -> Value {
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
    })
}
