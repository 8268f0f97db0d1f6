//! What can be asked of the engine thread about named agents; who only looks asks the handle.

use store::Pin;

/// One thing to do with agents.
#[derive(Debug)]
pub(crate) enum AgentAsk {
    Pin(String, Pin),
    /// Save first, then take out of the pool.
    Evict(String),
    /// Take out of the pool what is saved.
    EvictSaved(String),
    Forget(String),
}

impl AgentAsk {
    /// The verb in a message.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            AgentAsk::Pin(_, Pin::Pinned) => "pin an agent",
            AgentAsk::Pin(_, Pin::Unpinned) => "unpin an agent",
            AgentAsk::Evict(_) | AgentAsk::EvictSaved(_) => "evict an agent",
            AgentAsk::Forget(_) => "forget an agent",
        }
    }
}
