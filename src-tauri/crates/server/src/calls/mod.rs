//! What every API asks for and gets, without a word of any API's wire.
//!
//! A [`call::Call`] is [prepared](prepare), [run], [answered](answering), and becomes an [answer] or a [fault]; so does an
//! [`embed_call::EmbedCall`], which is for vectors.

pub(crate) mod agent_name;
pub(crate) mod answer;
pub(crate) mod answering;
pub(crate) mod call;
mod closed_objects;
pub(crate) mod default_sampling;
pub(crate) mod embed_answer;
pub(crate) mod embed_call;
pub(crate) mod embed_prepare;
pub(crate) mod fault;
pub(crate) mod folding;
pub(crate) mod grammars;
pub(crate) mod model_names;
pub(crate) mod prepare;
pub(crate) mod prompt;
pub(crate) mod prompt_seats;
pub(crate) mod reading;
pub(crate) mod render_workers;
pub(crate) mod run;
pub(crate) mod served_model;
pub(crate) mod signing_key;
pub(crate) mod thinking;
pub(crate) mod tools;
mod volatile_lines;
