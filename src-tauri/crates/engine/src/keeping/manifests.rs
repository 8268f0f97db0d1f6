//! Keeps agents: writes down which tokens and blocks a named conversation rests on, and undoes it.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use scheduler::footprint::Footprint;
use scheduler::{Addresses, AnswerToken, BlockKey, ChainHash, TokenId};
use store::{AgentManifest, BlockStore, Pin, TokenSpan};

use super::answers::Answers;
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
    let before = manifest_of(store, standing.name, &card.fingerprint);
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
        pin: before.map_or(Pin::Unpinned, |before| before.pin),
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

/// How many leading tokens of an agent's conversation a restart would find again, whatever happens to others that
/// share them: what its own manifest on disk does not have goes when they are deleted.
pub(crate) fn saved_tokens(store: &dyn BlockStore, footprint: &Footprint, agent: &AgentManifest) -> usize {
    let Some(written) = store.written_agent(&agent.name, &agent.fingerprint) else { return 0 };
    let is_all_written = written.blocks == agent.blocks && written.tail == agent.tail;
    let hashes = written.blocks.iter().chain(&written.tail).filter(|_| !is_all_written);
    let written: HashSet<ChainHash> = hashes.copied().collect();
    let addresses = addresses_of(agent);
    let hashes = addresses.all().filter(|hash| is_all_written || written.contains(hash));
    let keys: Vec<BlockKey> = hashes.flat_map(|hash| footprint.keys(*hash)).collect();
    let is_durable = store.are_durable(&keys);
    let is_durable = keys.into_iter().zip(is_durable);
    let durable: HashSet<BlockKey> = is_durable.filter_map(|(key, is)| is.then_some(key)).collect();
    footprint.tokens_covered(agent.tokens.len(), &addresses, &|key| durable.contains(key))
}

/// Every block of an agent, then those of its earlier states.
pub(crate) fn all_hashes(agent: &AgentManifest) -> impl Iterator<Item = ChainHash> {
    agent.blocks.iter().chain(&agent.tail).chain(&agent.former).copied()
}

/// Of an agent's blocks, those of its earlier states too, the ones that no other agent of the model rests on.
pub(crate) fn own_hashes(store: &dyn BlockStore, fingerprint: &[u8; 32], name: &str) -> Vec<ChainHash> {
    let Some(own) = manifest_of(store, name, fingerprint) else { return Vec::new() };
    let others = store.agents().into_iter().filter(|other| other.name != name);
    let of_others: HashSet<ChainHash> = others
        .filter_map(|other| manifest_of(store, &other.name, fingerprint))
        .flat_map(|other| other.blocks.iter().chain(&other.tail).copied().collect::<Vec<_>>())
        .collect();
    all_hashes(&own).filter(|hash| !of_others.contains(hash)).collect()
}

/// Remember the answers that are in the manifests of a model that has just been loaded.
pub(crate) fn recall(store: &dyn BlockStore, card: &ModelCard, answers: &Answers) {
    let of_model = store.agents().into_iter().filter(|agent| agent.fingerprint == card.fingerprint);
    let mut names: Vec<String> = of_model.take(MAX_RECALLED_AGENTS).map(|agent| agent.name).collect();
    // The last one to be remembered is the last one to go.
    names.reverse();
    for manifest in names.iter().filter_map(|name| manifest_of(store, name, &card.fingerprint)) {
        for span in &manifest.generated {
            let (start, end) = (span.start as usize, span.start as usize + span.n_tokens as usize);
            // What a damaged manifest says is checked by nobody else.
            let Some(ids) = manifest.tokens.get(start..end) else { continue };
            let token = |&id: &TokenId| AnswerToken { id, bytes: card.text.token_bytes(id).to_vec() };
            let answer: Vec<AnswerToken> = ids.iter().map(token).collect();
            answers.record(&manifest.tokens[..start], &answer);
        }
    }
}
