//! Conversations: what of a named agent, or of a chat without a name, is written down, found again and forgotten.

use std::ops::Range;

use scheduler::{ChainHash, FormerBlock, Progress, SeqId, TokenId};
use store::{AgentManifest, OfModels, Pin};

use super::postponed::Postponed;
use super::sequence::Sequence;
use super::serving::Serving;
use crate::keeping::manifests::{Standing, addresses_of, all_hashes, keep, manifest_of, own_hashes};

/// Blocks by which an agent's running answer grows between two writings of its manifest, each of which the disk has
/// to sync.
const NOTE_EVERY_BLOCKS: usize = 4;

impl Serving {
    /// Take what an agent has in the pool out of it, as far as it is saved and nobody needs it there.
    pub(crate) fn evict_agent(&mut self, name: &str) {
        let manifest = manifest_of(self.config.store.as_ref(), name, &self.card.fingerprint);
        let hashes = manifest.iter().flat_map(|manifest| all_hashes(manifest));
        let hashes = hashes.chain(self.checkpoints.newest_of(name)).collect();
        self.when_idle(Postponed::Evict(name.to_owned(), hashes));
    }

    /// Take what only this agent has out of the pool, saved or not; the store is the caller's matter.
    pub(crate) fn forget_agent(&mut self, name: &str) {
        let own = own_hashes(self.config.store.as_ref(), &self.card.fingerprint, name);
        for sequence in self.sequences.values_mut() {
            if sequence.agent.as_deref() == Some(name) && sequence.has_begun() {
                sequence.is_forgotten = true;
            }
        }
        self.when_idle(Postponed::Forget(name.to_owned(), own));
    }

    /// An agent was pinned or is no longer, or its conversation has changed.
    pub(crate) fn repin_agent(&mut self, name: &str) {
        self.when_idle(Postponed::Repin(name.to_owned()));
    }

    /// Pin what a pinned agent has in the pool, and nothing of another.
    pub(super) fn repin(&mut self, name: &str) {
        let manifest = manifest_of(self.config.store.as_ref(), name, &self.card.fingerprint);
        let Some(manifest) = manifest.filter(|manifest| manifest.pin == Pin::Pinned) else {
            return self.release_pins(name);
        };
        let path: Vec<ChainHash> = addresses_of(&manifest).all().copied().collect();
        // Where half of the pool is too little for all, blocks without a state behind them are of no use.
        let mut keys = self.states_to_pin(name, &path);
        keys.extend(self.scheduler.keys_at(path).into_iter().filter(|key| !key.group.is_state()));
        let n_left_out = self.pins.pin(name, &keys, &mut self.scheduler);
        self.has_new_pins = true;
        if n_left_out > 0 {
            tracing::info!(
                agent = name,
                n_left_out,
                "half of the pool is pinned; these blocks are kept on disk only"
            );
        }
    }

    /// Let go of what stays in the pool for an agent.
    pub(super) fn release_pins(&mut self, name: &str) {
        self.has_new_pins |= self.pins.release(name, &mut self.scheduler);
    }

    /// Take idle blocks out of the pool, as far as nothing else continues them.
    pub(super) fn evict(&mut self, hashes: Vec<ChainHash>) {
        let keys = self.scheduler.keys_at(hashes);
        // What continues a block may stand before it in the list.
        while self.scheduler.evict(&keys) > 0 {}
    }

    /// As [`Serving::evict`], for blocks that are not to be used again, whether they are saved or not.
    pub(super) fn forget(&mut self, hashes: Vec<ChainHash>) {
        let keys = self.scheduler.keys_at(hashes.iter().copied());
        self.saving.drop_blocks(&keys);
        keys.iter().for_each(|key| self.scheduler.mark_saved(key));
        self.evict(hashes);
    }

    /// An agent's prompt is complete, or its conversation has got some blocks longer: written down, a crash does not
    /// lose which ids these were.
    pub(super) fn note_progress(&mut self, id: SeqId) {
        let block_tokens = self.runner.layout().block_tokens;
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let Some(progress) = self.scheduler.progress(id) else { return };
        let n_blocks = progress.n_computed / block_tokens;
        let noted = sequence.n_blocks_noted;
        let is_longer = n_blocks > 0 && (noted == 0 || n_blocks >= noted + NOTE_EVERY_BLOCKS);
        let is_due = progress.n_computed >= progress.n_prompt && is_longer;
        if is_due && !sequence.is_forgotten {
            sequence.n_blocks_noted = n_blocks;
            let sequence = &self.sequences[&id];
            if let Some(name) = &sequence.agent {
                self.keep(name, sequence, progress, n_blocks * block_tokens);
            }
        }
    }

    /// Write down where a conversation stands of which a request has just ended.
    pub(super) fn note_end(&self, id: SeqId, sequence: &Sequence, progress: Progress<'_>) {
        let store = self.config.store.as_ref();
        let n_kept = progress.n_kept;
        if n_kept == 0 || !store.is_on() {
            return;
        }
        let Some(name) = &sequence.agent else {
            // For its generated ids: sent back as text after a restart, they are to be taken again.
            if self.saving.is_worth(id) && sequence.is_chat() {
                let root = self.root_of(progress.tokens, &sequence.generated(progress.n_prompt));
                self.keep(&AgentManifest::unnamed(&root), sequence, progress, n_kept);
            }
            return;
        };
        self.keep(name, sequence, progress, n_kept);
        if sequence.is_forgotten {
            // What it computed after its agent was deleted goes the same way.
            let of = OfModels::One(self.card.fingerprint);
            store.delete_agent(name, of, Box::new(|| {}));
        }
    }

    /// What tells a conversation without a name from others: all that stands before the first answer in it.
    pub(super) fn root_of(&self, tokens: &[TokenId], generated: &[Range<usize>]) -> ChainHash {
        let n_tokens = generated.first().map_or(tokens.len(), |first| first.start);
        let addresses = self.scheduler.addresses(&tokens[..n_tokens]);
        addresses.all().next_back().copied().unwrap_or(ChainHash([0; 32]))
    }

    /// How a new sequence's conversation went on before, where its prompt leaves what was kept of it.
    pub(super) fn former_block(&self, sequence: &Sequence, prompt: &[TokenId]) -> Option<FormerBlock> {
        let store = self.config.store.as_ref();
        let generated = sequence.generated(prompt.len());
        let unnamed = || AgentManifest::unnamed(&self.root_of(prompt, &generated));
        let name = sequence.agent.clone().or_else(|| store.is_on().then(unnamed))?;
        let manifest = manifest_of(store, &name, &self.card.fingerprint)?;
        let is_same_layout = manifest.block_tokens as usize == self.runner.layout().block_tokens;
        let addresses = addresses_of(&manifest);
        let former = || self.scheduler.former_block(&manifest.tokens, &addresses, prompt);
        is_same_layout.then(former)?
    }

    fn keep(&self, name: &str, sequence: &Sequence, progress: Progress<'_>, n_tokens: usize) {
        let tokens = &progress.tokens[..n_tokens];
        let addresses = self.scheduler.addresses(tokens);
        // A partial block has an address of its own only where the sequence ended.
        let tail = addresses.tail.filter(|_| progress.n_computed == n_tokens);
        let standing = Standing {
            name,
            tokens,
            whole: addresses.whole,
            tail,
            generated: sequence.generated(progress.n_prompt),
        };
        keep(self.config.store.as_ref(), &self.card, self.runner.layout().block_tokens, standing);
    }
}
