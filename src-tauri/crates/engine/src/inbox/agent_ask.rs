//! What can be asked of the engine thread about named agents; who only looks asks the handle.

use store::{OfModels, Pin};

/// One thing to do with an agent.
#[derive(Debug)]
pub(crate) struct AgentAsk {
    /// Its name.
    pub(crate) name: String,
    /// With which models.
    pub(crate) of: OfModels,
    pub(crate) what: AgentAct,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentAct {
    Pin(Pin),
    /// Save first, then take out of the pool.
    Evict,
    /// Take out of the pool what is saved.
    EvictSaved,
    Forget,
}

impl AgentAct {
    /// The verb in a message.
    pub(crate) fn name(self) -> &'static str {
        match self {
            AgentAct::Pin(Pin::Pinned) => "pin an agent",
            AgentAct::Pin(Pin::Unpinned) => "unpin an agent",
            AgentAct::Evict | AgentAct::EvictSaved => "evict an agent",
            AgentAct::Forget => "forget an agent",
        }
    }
}
