//! OpenAI's Responses API.
//!
//! Read `responses_call.rs` for what is honoured and what is refused, `items.rs` for what an input may hold,
//! `events.rs` for how an answer is written. What is wrong is said in [OpenAI's words](crate::dialects::openai::fault).

pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod items;
pub(crate) mod objects;
pub(crate) mod requests;
pub(crate) mod responses_call;
pub(crate) mod shown_tools;
