//! Speaks HTTP: OpenAI's API, health, metrics and admin, in front of an [`engine::EngineHandle`].
//!
//! It parses untrusted bytes into valid requests, tokenises them, hands them to the engine and writes the
//! engine's events in the dialect of the API. It executes no model, knows no blocks, no candle and no Tauri,
//! and holds no state of a request beyond its connection.
//!
//! Read `listen/listening.rs` first (what the app calls), then `router.rs` (which path leads where), `edge/edge.rs` (what
//! every request passes), and `dialects/openai/generate.rs` (the way of a generation call).

mod agents;
mod calls;
mod config;
mod dialects;
mod edge;
mod generate;
mod listen;
mod page;
mod router;
mod watch;

#[cfg(test)]
mod tests;

pub use calls::render_workers::RenderWorkers;
pub use config::{ApiKey, ConfigError, HttpLimits, ServerConfig};
pub use listen::listening::{BindError, Bound, Server};
pub use page::PAGE_FILES;
