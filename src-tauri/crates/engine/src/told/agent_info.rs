//! What is told of a named agent.

use std::time::SystemTime;

/// A named agent: a conversation whose KV is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    /// What the client calls it.
    pub name: String,
    /// Whether what follows is about the loaded model; otherwise about the one that it was last used with.
    pub is_of_loaded_model: bool,
    /// Tokens of the conversation whose KV was computed.
    pub n_tokens: usize,
    /// Leading tokens that a restart of the process would find again: synced, not just written.
    pub saved_tokens: usize,
    /// Leading tokens whose KV is in the pool.
    pub resident_tokens: usize,
    /// Requests of it that run or wait.
    pub n_requests: usize,
    /// When it was last used, in whole seconds.
    pub last_used: SystemTime,
    /// Whether what it has on disk is exempt from being given up for space.
    pub is_pinned: bool,
    /// Where its KV is.
    pub tier: Tier,
}

/// Where an agent's KV is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// In the pool, as far as whole blocks go: the next request waits for no disk.
    Resident,
    /// On disk, at least in part.
    Stored,
}

crate::names! {
    pub Tier {
        Resident => "resident",
        Stored => "stored",
    }
}
