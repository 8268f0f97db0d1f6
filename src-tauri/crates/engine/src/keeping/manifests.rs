//! Keeps agents: writes down which tokens and blocks a named conversation rests on, and undoes it.
//!
//! One is written when a prompt is complete, at every fourth block of an answer and at the end; when a model is
//! loaded, its agents' answers are remembered from it, so that re-sent text is spliced after a restart too.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use scheduler::footprint::Footprint;
use scheduler::{Addresses, BlockKey, ChainHash, GroupId, TokenId};
use store::{AgentManifest, BlockStore, Pin, TokenSpan};

use super::answers::Answers;
use super::former_prompts::FormerPrompts;
use crate::told::card::ModelCard;

/// Agents whose generated answers are remembered again when their model is loaded: the last used ones.
const MAX_RECALLED_AGENTS: usize = 256;

/// Where a conversation stands.
pub(crate) struct Standing<'a> {
    /// The agent's name.
    pub(crate) name: &'a str,
    /// Its tokens as far as their KV is or was in the pool.
    pub(crate) tokens: &'a [TokenId],
    /// Addresses of their whole blocks.
    pub(crate) whole: Vec<ChainHash>,
    /// Address of the rest, when it is a block of its own.
    pub(crate) tail: Option<ChainHash>,
    /// Which of them were generated, in order.
    pub(crate) generated: Vec<Range<usize>>,
}

/// Put an agent's manifest into the store. What the store knows of its pin stays.
pub(crate) fn keep(store: &dyn BlockStore, card: &ModelCard, block_tokens: usize, standing: Standing<'_>) {
    let (before, others): (Vec<_>, Vec<_>) =
        store.agent(standing.name).into_iter().partition(|known| known.fingerprint == card.fingerprint);
    // An agent that is pinned stays so with a model that is new to it.
    let is_pinned = |known: &[Arc<AgentManifest>]| {
        !known.is_empty() && known.iter().all(|manifest| manifest.pin == Pin::Pinned)
    };
    let is_pinned = if before.is_empty() { is_pinned(&others) } else { is_pinned(&before) };
    let n_tokens = standing.tokens.len();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    store.put_agent(AgentManifest {
        name: standing.name.to_owned(),
        fingerprint: card.fingerprint,
        block_tokens: block_tokens as u32,
        tokens: standing.tokens.to_vec(),
        generated: spans(&standing.generated, n_tokens),
        blocks: standing.whole,
        tail: standing.tail,
        last_used: now,
        pin: if is_pinned { Pin::Pinned } else { Pin::Unpinned },
        former: Vec::new(),
    });
}

/// Ranges cut off at `n_tokens`.
fn spans(ranges: &[Range<usize>], n_tokens: usize) -> Vec<TokenSpan> {
    let cut = ranges.iter().map(|range| range.start..range.end.min(n_tokens));
    let span = |range: Range<usize>| TokenSpan { start: range.start as u32, n_tokens: range.len() as u32 };
    cut.filter(|range| !range.is_empty()).map(span).collect()
}

/// The addresses of an agent's tokens.
pub(crate) fn addresses_of(agent: &AgentManifest) -> Addresses {
    Addresses { whole: agent.blocks.clone(), tail: agent.tail }
}

/// The manifest of a name and a model.
pub(crate) fn manifest_of(
    store: &dyn BlockStore,
    name: &str,
    fingerprint: &[u8; 32],
) -> Option<Arc<AgentManifest>> {
    store.agent(name).into_iter().find(|manifest| manifest.fingerprint == *fingerprint)
}

/// What of an agent is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Leading tokens that a restart would find again.
    pub(crate) n_tokens: usize,
    /// Bytes on disk of all its blocks, those that it shares with others too.
    pub(crate) n_bytes: u64,
}

/// What of an agent's conversation a restart would find again, whatever happens to others that share it: what its own
/// manifest on disk does not have goes when they are deleted.
///
/// Without a `footprint`, because the model is not here, all that the store has seen of its layer groups is asked for.
pub(crate) fn kept(store: &dyn BlockStore, footprint: Option<&Footprint>, agent: &AgentManifest) -> Kept {
    let addresses = addresses_of(agent);
    let hashes: Vec<ChainHash> = addresses.all().copied().collect();
    let durable = store.durable_at(&hashes);
    let n_bytes = durable.iter().map(|block| block.n_bytes).sum();
    let Some(written) = store.written_agent(&agent.name, &agent.fingerprint) else {
        return Kept { n_tokens: 0, n_bytes };
    };
    let is_all_written = written.blocks == agent.blocks && written.tail == agent.tail;
    let hashes = written.blocks.iter().chain(&written.tail).filter(|_| !is_all_written);
    let written: HashSet<ChainHash> = hashes.copied().collect();
    let is_written = |key: &BlockKey| is_all_written || written.contains(&key.hash);
    let there: HashSet<BlockKey> = durable.iter().map(|block| block.key).filter(is_written).collect();
    let careful = || {
        let groups: BTreeSet<GroupId> = durable.iter().map(|block| block.key.group).collect();
        Footprint::careful(agent.block_tokens as usize, groups)
    };
    let careful = footprint.is_none().then(careful);
    let footprint = footprint.or(careful.as_ref());
    let covered = |footprint: &Footprint| {
        footprint.tokens_covered(agent.tokens.len(), &addresses, &|key| there.contains(key))
    };
    Kept { n_tokens: footprint.map_or(0, covered), n_bytes }
}

/// Every block of an agent, then those of its earlier states.
pub(crate) fn all_hashes(agent: &AgentManifest) -> impl Iterator<Item = ChainHash> {
    agent.blocks.iter().chain(&agent.tail).chain(&agent.former).copied()
}

/// Of an agent's blocks, those of its earlier states too, the ones that no other agent of the model rests on.
pub(crate) fn own_hashes(store: &dyn BlockStore, fingerprint: &[u8; 32], name: &str) -> Vec<ChainHash> {
    let Some(own) = manifest_of(store, name, fingerprint) else { return Vec::new() };
    let others = store.agents().into_iter();
    let of_others: HashSet<ChainHash> = others
        .filter(|other| other.name != name && other.fingerprint == *fingerprint)
        .flat_map(|other| other.blocks.iter().chain(&other.tail).copied().collect::<Vec<_>>())
        .collect();
    all_hashes(&own).filter(|hash| !of_others.contains(hash)).collect()
}

/// Remember the conversations that are in the manifests of a model that has just been loaded, and the answers in them.
pub(crate) fn recall(store: &dyn BlockStore, card: &ModelCard, answers: &Answers) -> FormerPrompts {
    let mut former = FormerPrompts::default();
    let of_model = store.agents().into_iter().filter(|agent| agent.fingerprint == card.fingerprint);
    let last_used: Vec<Arc<AgentManifest>> = of_model.take(MAX_RECALLED_AGENTS).collect();
    // The last one to be remembered is the last one to go.
    for manifest in last_used.iter().rev() {
        for span in &manifest.generated {
            let (start, end) = (span.start as usize, span.start as usize + span.n_tokens as usize);
            // What a damaged manifest says is checked by nobody else.
            let Some(ids) = manifest.tokens.get(start..end) else { continue };
            answers.record(&manifest.tokens[..start], ids, None);
        }
        former.push(&manifest.tokens);
    }
    former
}
