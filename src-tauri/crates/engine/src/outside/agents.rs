//! The named agents as others see them, put together from the store's manifests and the pools' addresses without the
//! engine thread.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use scheduler::BlockKey;
use store::{AgentManifest, BlockStore, Pin, is_unnamed};

use crate::keeping::manifests::{addresses_of, kept};
use crate::shared::{OfModel, Shared};
use crate::told::agent_info::{AgentInfo, AgentOfModel, KeptKv, Tier};
use crate::told::model_name::ModelName;

/// A model that is here, with what its pool has at this moment.
struct Here {
    of: OfModel,
    resident: HashSet<BlockKey>,
    pinned: Arc<HashSet<BlockKey>>,
}

/// One line for each name, the last used first.
pub(super) fn list(shared: &Shared, store: &dyn BlockStore) -> Vec<AgentInfo> {
    infos(store.agents(), shared, store)
}

/// One agent.
pub(super) fn show(shared: &Shared, store: &dyn BlockStore, name: &str) -> Option<AgentInfo> {
    infos(store.agent(name), shared, store).pop()
}

fn infos(all: Vec<Arc<AgentManifest>>, shared: &Shared, store: &dyn BlockStore) -> Vec<AgentInfo> {
    let here = |(_, of): (ModelName, OfModel)| {
        let residency = of.residency.as_ref();
        let resident = residency.map(|residency| residency.resident()).unwrap_or_default();
        let pinned = residency.map(|residency| residency.pinned()).unwrap_or_default();
        Here { of, resident, pinned }
    };
    let here: Vec<Here> = shared.all().into_iter().map(here).collect();
    let mut by_name: BTreeMap<&str, Vec<AgentOfModel>> = BTreeMap::new();
    for manifest in all.iter().filter(|manifest| !is_unnamed(&manifest.name)) {
        let here = here.iter().find(|here| here.of.card.fingerprint == manifest.fingerprint);
        let of_model = AgentOfModel {
            model: shared.name_of(&manifest.fingerprint),
            fingerprint: manifest.fingerprint,
            is_loaded: here.is_some_and(|here| here.of.residency.is_some()),
            kept: kept_kv(manifest, here, store),
        };
        by_name.entry(&manifest.name).or_default().push(of_model);
    }
    let mut infos: Vec<AgentInfo> =
        by_name.into_iter().map(|(name, models)| AgentInfo::of(name.to_owned(), models)).collect();
    infos.sort_by_key(|info| std::cmp::Reverse(info.sum.last_used));
    infos
}

fn kept_kv(manifest: &AgentManifest, here: Option<&Here>, store: &dyn BlockStore) -> KeptKv {
    let residency = here.and_then(|here| here.of.residency.as_deref());
    let kept = kept(store, residency.map(|residency| &residency.footprint), manifest);
    let addresses = addresses_of(manifest);
    let n_tokens = manifest.tokens.len();
    let (resident_tokens, pinned_tokens) = match (here, residency) {
        (Some(here), Some(residency)) => {
            let covered = |keys: &HashSet<BlockKey>| {
                residency.footprint.tokens_covered(n_tokens, &addresses, &|key| keys.contains(key))
            };
            (covered(&here.resident), covered(&here.pinned))
        }
        _ => (0, 0),
    };
    let n_whole = addresses.whole.len().saturating_mul(manifest.block_tokens as usize);
    let tier = if resident_tokens > 0 && resident_tokens >= n_whole { Tier::Resident } else { Tier::Stored };
    KeptKv {
        n_tokens,
        saved_tokens: kept.n_tokens,
        stored_bytes: kept.n_bytes,
        resident_tokens,
        pinned_tokens,
        n_requests: residency.map_or(0, |residency| residency.n_requests(&manifest.name)),
        last_used: UNIX_EPOCH + Duration::from_secs(manifest.last_used),
        is_pinned: manifest.pin == Pin::Pinned,
        tier,
    }
}
