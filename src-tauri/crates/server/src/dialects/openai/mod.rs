//! OpenAI's API: models, chat completions and completions.
//!
//! Read `generate.rs` for the way of a call, `parameters.rs` for what is honoured and what is refused,
//! `chat.rs` and `completions.rs` for the two dialects.

mod answer;
mod chat;
mod completions;
mod generate;
mod logprobs;
mod messages;
mod models;
mod parameters;
mod prompt;
mod response_format;
mod sampling;
mod stream;
mod template_variables;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::router::App;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::show))
        .route("/v1/chat/completions", post(chat::chat_completions))
        .route("/v1/completions", post(completions::completions))
}
