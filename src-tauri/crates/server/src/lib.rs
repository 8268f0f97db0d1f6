//! Speaks HTTP: OpenAI's API, health, metrics and admin, in front of an [`engine::EngineHandle`].
//!
//! It parses untrusted bytes into valid requests, tokenises them, hands them to the engine and writes the
//! engine's events in the dialect of the API. It executes no model, knows no blocks, no candle and no Tauri,
//! and holds no state of a request beyond its connection.
//!
//! Read `bound.rs` first (what the app calls), `connection.rs` and `seats.rs` (what becomes of a connection), then `router.rs` (which path leads where), `edge.rs` (what every
//! request passes), and `openai/generate.rs` (the way of a generation call). `errors.rs` is the only place
//! that maps kinds of errors to status codes.

mod access_log;
mod admin;
mod agent_name;
mod agents;
mod allowed;
mod body;
mod body_budget;
mod bound;
mod config;
mod connection;
mod constraining;
mod edge;
mod errors;
mod fields;
mod gone_client;
mod guard;
mod health;
mod http_counts;
mod kept_answers;
mod metrics;
mod openai;
mod page;
mod port_holder;
mod prometheus;
mod prompt_seats;
mod render_workers;
mod request_id;
mod router;
mod sampling_by_default;
mod seats;
mod sse;

#[cfg(test)]
mod tests;

pub use bound::{BindError, Bound, Server};
pub use config::{ApiKey, ConfigError, HttpLimits, ServerConfig};
pub use page::PAGE_FILES;
pub use render_workers::RenderWorkers;
