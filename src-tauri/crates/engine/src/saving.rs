//! Completed blocks on their way from the pool to the store.

use std::collections::VecDeque;
use std::sync::Arc;

use scheduler::{BlockKey, CompletedBlock, ModelRunner, Scheduler};
use store::{BlockRecord, BlockStore, SaveReason};

/// Copies completed blocks out of the pool and offers them to the store. A store that is off costs a look at a flag.
pub(crate) struct Saving {
    store: Arc<dyn BlockStore>,
    fingerprint: [u8; 32],
    block_bytes: usize,
    /// Blocks the store had no room for; they stay in the pool until it has.
    waiting: VecDeque<(CompletedBlock, SaveReason)>,
}

impl Saving {
    pub(crate) fn new(store: Arc<dyn BlockStore>, fingerprint: [u8; 32], block_bytes: usize) -> Saving {
        Saving { store, fingerprint, block_bytes, waiting: VecDeque::new() }
    }

    /// Whether the store has still to take something.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes that the store has still to take.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting.len() as u64 * self.block_bytes as u64
    }

    /// Don't save these: they are not to be used again.
    pub(crate) fn drop_blocks(&mut self, keys: &[BlockKey]) {
        self.waiting.retain(|(block, _)| !keys.contains(&block.key));
    }

    /// Offer what was completed since the last call, and what the store had no room for then.
    ///
    /// A block counts as saved once the store has its bytes: from then on its memory may be reused.
    pub(crate) fn offer(
        &mut self,
        scheduler: &mut Scheduler,
        runner: &mut dyn ModelRunner,
        tail_reason: SaveReason,
    ) {
        if !self.store.is_on() {
            return;
        }
        let block_tokens = runner.layout().block_tokens;
        for block in scheduler.take_completed() {
            let is_whole = block.tokens.len() == block_tokens;
            self.waiting.push_back((block, if is_whole { SaveReason::BlockFull } else { tail_reason }));
        }
        while let Some((block, reason)) = self.waiting.pop_front() {
            let mut bytes = vec![0; self.block_bytes];
            if let Err(error) = runner.export_block(block.block, &mut bytes) {
                // Not saved is a miss later on, never a wrong answer.
                tracing::warn!(%error, "a block could not be read from the pool and is not saved");
                scheduler.mark_saved(&block.key);
                continue;
            }
            let record = BlockRecord {
                key: stored_key(&block.key),
                parent: block.parent.0,
                fingerprint: self.fingerprint,
                tokens: block.tokens.clone(),
                reason,
                bytes,
            };
            if self.store.save(record).is_err() {
                self.waiting.push_front((block, reason));
                return;
            }
            scheduler.mark_saved(&block.key);
        }
    }
}

/// The store's name for a block.
pub(crate) fn stored_key(key: &BlockKey) -> store::BlockKey {
    // A model has as many groups as layers at most.
    store::BlockKey { hash: key.hash.0, group: key.group_idx as u16 }
}
