//! Everything that can be asked of the engine thread.

pub(crate) mod agent_ask;
pub(crate) mod command;
pub(crate) mod question;
