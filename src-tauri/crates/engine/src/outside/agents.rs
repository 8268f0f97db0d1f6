//! The named agents as others see them, put together from the store's manifests and the pools' addresses without the
//! engine thread.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use scheduler::BlockKey;
use store::{AgentSummary, BlockStore, Pin, is_unnamed};

use crate::keeping::manifests::{addresses_of, manifest_of, saved_tokens};
use crate::shared::{OfModel, Shared};
use crate::told::agent_info::{AgentInfo, Tier};

/// A model that is here, with what its pool has at this moment.
struct Here {
    of: OfModel,
    resident: HashSet<BlockKey>,
}

/// One line for each name, the last used first; of a model that is here where it has one.
pub(super) fn list(shared: &Shared, store: &dyn BlockStore) -> Vec<AgentInfo> {
    infos(store.agents(), shared, store)
}

/// One agent.
pub(super) fn show(shared: &Shared, store: &dyn BlockStore, name: &str) -> Option<AgentInfo> {
    infos(store.agents_called(name), shared, store).pop()
}

fn infos(all: Vec<AgentSummary>, shared: &Shared, store: &dyn BlockStore) -> Vec<AgentInfo> {
    let here = shared.all().into_iter().map(|of| {
        let resident = of.residency.as_ref().map(|residency| residency.resident());
        Here { of, resident: resident.unwrap_or_default() }
    });
    let here: Vec<Here> = here.collect();
    // The default model comes first, one that is not here last.
    let rank = |summary: &AgentSummary| {
        let at = here.iter().position(|here| here.of.card.fingerprint == summary.fingerprint);
        at.unwrap_or(usize::MAX)
    };
    let mut best: Vec<AgentSummary> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for summary in all.into_iter().filter(|summary| !is_unnamed(&summary.name)) {
        match at.get(&summary.name) {
            None => {
                at.insert(summary.name.clone(), best.len());
                best.push(summary);
            }
            Some(&known) if rank(&summary) < rank(&best[known]) => best[known] = summary,
            Some(_) => {}
        }
    }
    let info = |summary: AgentSummary| {
        let here = here.iter().find(|here| here.of.card.fingerprint == summary.fingerprint);
        info(summary, here, store)
    };
    let mut infos: Vec<AgentInfo> = best.into_iter().map(info).collect();
    infos.sort_by_key(|info| std::cmp::Reverse(info.last_used));
    infos
}

fn info(summary: AgentSummary, here: Option<&Here>, store: &dyn BlockStore) -> AgentInfo {
    let residency = here.and_then(|here| here.of.residency.as_deref());
    let manifest = residency.and_then(|_| manifest_of(store, &summary.name, &summary.fingerprint));
    let (resident_tokens, saved_tokens, n_whole) = match (manifest, here, residency) {
        (Some(manifest), Some(here), Some(residency)) => {
            let addresses = addresses_of(&manifest);
            let is_resident = |key: &BlockKey| here.resident.contains(key);
            let n_tokens = manifest.tokens.len();
            let resident = residency.footprint.tokens_covered(n_tokens, &addresses, &is_resident);
            let saved = saved_tokens(store, &residency.footprint, &manifest);
            (resident, saved, addresses.whole.len() * manifest.block_tokens as usize)
        }
        // The layer groups of a model that is not here are not known: the store's own count is as good as it gets.
        _ => (0, summary.saved_tokens, usize::MAX),
    };
    let tier = if resident_tokens > 0 && resident_tokens >= n_whole { Tier::Resident } else { Tier::Stored };
    AgentInfo {
        is_of_loaded_model: residency.is_some(),
        n_tokens: summary.n_tokens,
        saved_tokens,
        resident_tokens,
        n_requests: residency.map_or(0, |residency| residency.n_requests(&summary.name)),
        last_used: UNIX_EPOCH + Duration::from_secs(summary.last_used),
        is_pinned: summary.pin == Pin::Pinned,
        tier,
        name: summary.name,
    }
}
