//! What every request passes on its way in and every response on its way out.
//!
//! Read `edge.rs` first, then `gate.rs`: what it is made of, `guard.rs`: who may ask, and `seats.rs`: how many at a time.

pub(crate) mod access_log;
pub(crate) mod allowed;
pub(crate) mod body;
pub(crate) mod body_budget;
pub(crate) mod coding;
#[expect(clippy::module_inception, reason = "the room is named for what it is about")]
pub(crate) mod edge;
pub(crate) mod frames;
pub(crate) mod gate;
pub(crate) mod guard;
pub(crate) mod http_counts;
pub(crate) mod no_request;
pub(crate) mod refusal;
pub(crate) mod request_id;
pub(crate) mod seats;
pub(crate) mod trace_context;
pub(crate) mod turn;
