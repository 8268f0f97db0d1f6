//! Speaks HTTP: the APIs of OpenAI, Anthropic and Ollama, health, metrics and admin, in front of an [`engine::EngineHandle`].
//!
//! It parses untrusted bytes into valid requests, tokenises them, hands them to the engine and writes the
//! engine's events in the dialect of the API. It executes no model, knows no blocks, no candle and no Tauri,
//! and holds no state of a request beyond its connection.
//!
//! Its rooms, from the bottom up; none knows one that comes later:
//!
//! - `calls`: what every API asks and gets, with no word of any wire;
//! - `dialects`: how each API is read and written; they know calls, and no engine;
//! - `edge`: what every request passes on its way in and every response on its way out;
//! - `keys`: who may ask, by the key that is shown;
//! - `kept`: what outlives a request;
//! - `generate`, `embed`, `models`, `agents`, `watch`, `page`: the routes;
//! - `router.rs` puts them together, and `listen` serves them to connections.
//!
//! `app.rs` is what handlers share, `name_lists.rs` what words the API's fields may have. Read `listen/listening.rs` first (what the app calls), then `router.rs`,
//! `edge/edge.rs`, and `generate/handler.rs` (the way of a generation call).

mod agents;
mod app;
mod calls;
mod config;
mod dialects;
mod edge;
mod embed;
mod generate;
mod kept;
mod keys;
mod listen;
mod models;
mod name_lists;
mod openapi;
mod page;
mod page_files;
mod router;
mod watch;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
mod tests;

pub use calls::fault::FaultKind;
pub use calls::render_workers::RenderWorkers;
pub use calls::signing_key::SigningKey;
pub use config::{ApiKey, ConfigError, HttpLimits, ServerConfig};
pub use keys::key_file::{KeyFile, KeyFileError, NamedKey, NewKey};
pub use keys::scope::Scope;
pub use listen::listening::{BindError, ListeningServer, Server};
pub use page_files::PAGE_FILES;
