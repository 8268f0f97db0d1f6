//! What every API asks for and gets, without a word of any API's wire.

pub(crate) mod agent_name;
pub(crate) mod default_sampling;
pub(crate) mod fault;
pub(crate) mod grammars;
pub(crate) mod prompt_seats;
pub(crate) mod render_workers;
