//! Named agents: what can be asked of the engine about them, and what it tells.
//!
//! The store has their manifests; the engine thread knows besides what of them is in the pool and what runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use store::{AgentManifest, AgentSummary, BlockStore, Pin, is_unnamed};

use crate::keeping::addresses_of;
use crate::serving::Serving;

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

impl Tier {
    /// The word in the API.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Resident => "resident",
            Tier::Stored => "stored",
        }
    }
}

/// One thing to do with agents.
#[derive(Debug)]
pub(crate) enum AgentAsk {
    List,
    Show(String),
    Pin(String, Pin),
    /// Save first, then take out of the pool.
    Evict(String),
    /// Take out of the pool what is saved.
    EvictSaved(String),
    Forget(String),
    ForgetAll,
}

impl AgentAsk {
    /// The verb in a message.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            AgentAsk::List | AgentAsk::Show(_) => "look at agents",
            AgentAsk::Pin(_, Pin::Pinned) => "pin an agent",
            AgentAsk::Pin(_, Pin::Unpinned) => "unpin an agent",
            AgentAsk::Evict(_) | AgentAsk::EvictSaved(_) => "evict an agent",
            AgentAsk::Forget(_) | AgentAsk::ForgetAll => "forget an agent",
        }
    }
}

/// Do what is asked, and tell of the agents that it was about.
pub(crate) fn obey(ask: &AgentAsk, store: &dyn BlockStore, serving: Option<&mut Serving>) -> Vec<AgentInfo> {
    let mut serving = serving;
    let about = |serving: Option<&Serving>, name: &str| {
        let all = store.agents().into_iter().filter(|agent| agent.name == name).collect();
        infos(all, store, serving)
    };
    match ask {
        AgentAsk::List => infos(store.agents(), store, serving.as_deref()),
        AgentAsk::Show(name) => about(serving.as_deref(), name),
        AgentAsk::Pin(name, pin) => {
            store.pin_agent(name, *pin);
            about(serving.as_deref(), name)
        }
        AgentAsk::Evict(name) | AgentAsk::EvictSaved(name) => {
            if let Some(serving) = serving.as_deref_mut() {
                serving.evict_agent(name);
            }
            about(serving.as_deref(), name)
        }
        AgentAsk::Forget(name) => {
            let was = about(serving.as_deref(), name);
            forget(name, store, serving);
            was
        }
        AgentAsk::ForgetAll => {
            let all = store.agents();
            let names: BTreeSet<String> = all.iter().map(|agent| agent.name.clone()).collect();
            let were = infos(all, store, serving.as_deref());
            // Conversations without a name are in no list and go as well.
            for name in &names {
                forget(name, store, serving.as_deref_mut());
            }
            were
        }
    }
}

fn forget(name: &str, store: &dyn BlockStore, serving: Option<&mut Serving>) {
    if let Some(serving) = serving {
        serving.forget_agent(name);
    }
    let agent = name.to_owned();
    store
        .delete_agent(name, Box::new(move || tracing::info!(agent, "a forgotten agent's blocks are erased")));
}

/// One line for each name, of the loaded model where it has one, the last used first.
fn infos(all: Vec<AgentSummary>, store: &dyn BlockStore, serving: Option<&Serving>) -> Vec<AgentInfo> {
    let loaded = serving.map(|serving| serving.card.fingerprint);
    let mut infos: Vec<AgentInfo> = Vec::new();
    for summary in all.into_iter().filter(|summary| !is_unnamed(&summary.name)) {
        let is_of_loaded_model = Some(summary.fingerprint) == loaded;
        let known = infos.iter().position(|info| info.name == summary.name);
        if known.is_some_and(|known| infos[known].is_of_loaded_model || !is_of_loaded_model) {
            continue;
        }
        let manifest = manifest_of(store, &summary.name, &summary.fingerprint);
        let info = info(summary, manifest.as_deref(), serving);
        match known {
            Some(known) => infos[known] = info,
            None => infos.push(info),
        }
    }
    infos.sort_by_key(|info| std::cmp::Reverse(info.last_used));
    infos
}

/// The manifest of a name and a model.
pub(crate) fn manifest_of(
    store: &dyn BlockStore,
    name: &str,
    fingerprint: &[u8; 32],
) -> Option<Arc<AgentManifest>> {
    store.agent(name).into_iter().find(|manifest| manifest.fingerprint == *fingerprint)
}

fn info(summary: AgentSummary, manifest: Option<&AgentManifest>, serving: Option<&Serving>) -> AgentInfo {
    let serving = serving.filter(|serving| serving.card.fingerprint == summary.fingerprint);
    let (resident_tokens, saved_tokens, n_whole) = match (manifest, serving) {
        (Some(manifest), Some(serving)) => {
            let whole = addresses_of(manifest).whole;
            let resident = serving.resident_tokens(&manifest.tokens, &whole);
            let n_whole = whole.len() * manifest.block_tokens as usize;
            (resident, serving.saved_tokens(manifest), n_whole)
        }
        // The layer groups of another model are not known here: the store's own count is as good as it gets.
        _ => (0, summary.saved_tokens, usize::MAX),
    };
    let tier = if resident_tokens > 0 && resident_tokens >= n_whole { Tier::Resident } else { Tier::Stored };
    AgentInfo {
        is_of_loaded_model: serving.is_some(),
        n_tokens: summary.n_tokens,
        saved_tokens,
        resident_tokens,
        n_requests: serving.map_or(0, |serving| serving.n_requests_of(&summary.name)),
        last_used: UNIX_EPOCH + Duration::from_secs(summary.last_used),
        is_pinned: summary.pin == Pin::Pinned,
        tier,
        name: summary.name,
    }
}
