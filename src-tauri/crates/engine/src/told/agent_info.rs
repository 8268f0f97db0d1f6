//! What is told of a named agent.

use std::time::{SystemTime, UNIX_EPOCH};

use store::OfModels;

/// A named agent: conversations whose KV is kept, one with each model that it was used with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    /// What the client calls it.
    pub name: String,
    /// Its conversation with each model, those with models that are here first.
    pub models: Vec<AgentOfModel>,
    /// The sum of them.
    pub sum: KeptKv,
}

/// What an agent has of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOfModel {
    /// The model's id, where it has been here since the start.
    pub model: Option<String>,
    /// What tells it from other models, whatever they are called.
    pub fingerprint: [u8; 32],
    /// Whether it is here.
    pub is_loaded: bool,
    /// Its conversation.
    pub kept: KeptKv,
}

/// What is kept of conversations, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptKv {
    /// Tokens whose KV was computed.
    pub n_tokens: usize,
    /// Leading tokens that a restart of the process would find again: synced, not just written.
    pub saved_tokens: usize,
    /// Bytes on disk, of blocks that are shared with other agents too.
    pub stored_bytes: u64,
    /// Leading tokens whose KV is in a pool.
    pub resident_tokens: usize,
    /// Leading tokens that stay in a pool, whoever else needs memory.
    pub pinned_tokens: usize,
    /// Requests that run or wait.
    pub n_requests: usize,
    /// When it was last used, in whole seconds.
    pub last_used: SystemTime,
    /// Whether nothing that is on disk may be given up for space.
    pub is_pinned: bool,
    /// Where the KV is.
    pub tier: Tier,
}

impl AgentInfo {
    /// What of it is of these models, if anything is.
    pub fn only(self, of: OfModels) -> Option<AgentInfo> {
        let models: Vec<_> = self.models.into_iter().filter(|part| of.includes(&part.fingerprint)).collect();
        (!models.is_empty()).then(|| AgentInfo::of(self.name, models))
    }

    /// The sum of what an agent has of each model.
    pub(crate) fn of(name: String, mut models: Vec<AgentOfModel>) -> AgentInfo {
        models.sort_by_key(|of| (!of.is_loaded, std::cmp::Reverse(of.kept.last_used)));
        let kept = || models.iter().map(|of| &of.kept);
        let sum = |n: fn(&KeptKv) -> usize| kept().map(n).sum();
        let is_resident = kept().all(|kept| kept.tier == Tier::Resident);
        let sum = KeptKv {
            n_tokens: sum(|kept| kept.n_tokens),
            saved_tokens: sum(|kept| kept.saved_tokens),
            stored_bytes: kept().map(|kept| kept.stored_bytes).sum(),
            resident_tokens: sum(|kept| kept.resident_tokens),
            pinned_tokens: sum(|kept| kept.pinned_tokens),
            n_requests: sum(|kept| kept.n_requests),
            last_used: kept().map(|kept| kept.last_used).max().unwrap_or(UNIX_EPOCH),
            is_pinned: kept().all(|kept| kept.is_pinned),
            tier: if is_resident { Tier::Resident } else { Tier::Stored },
        };
        AgentInfo { name, models, sum }
    }
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
