//! Completed blocks on their way from the pool to the store.
//!
//! A block is copied out of the pool when it is full, the last partial one when its sequence ends; of a partial one
//! only the bytes of its tokens.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use scheduler::{BlockKey, BlockPart, CompletedBlock, KvLayout, ModelRunner, Scheduler, SeqId, StoreMode};
use store::{BlockBytes, BlockRecord, BlockStore, SaveReason, StoreEvent};

/// Copies completed blocks out of the pool and offers them to the store.
///
/// Whether saving is on is the scheduler's to know, told by what the store says of itself; while it is off, nothing is
/// completed.
///
/// A block counts as saved when the store says that it is durable. Until then the pool keeps it, so that a disk that
/// fails loses nothing: when saving works again, whatever the pool still has is offered again.
pub(crate) struct Saving {
    store: Arc<dyn BlockStore>,
    fingerprint: [u8; 32],
    block_bytes: usize,
    /// Blocks the store had no room for; they stay in the pool until it has.
    waiting: VecDeque<(CompletedBlock, SaveReason)>,
    /// Sequences whose blocks are not worth writing.
    unwanted: HashSet<SeqId>,
}

impl Saving {
    pub(crate) fn new(store: Arc<dyn BlockStore>, fingerprint: [u8; 32], layout: &KvLayout) -> Saving {
        Saving {
            store,
            fingerprint,
            block_bytes: layout.block_bytes,
            waiting: VecDeque::new(),
            unwanted: HashSet::new(),
        }
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

    /// What a sequence computes is not worth writing.
    pub(crate) fn spare(&mut self, id: SeqId) {
        self.unwanted.insert(id);
    }

    /// Whether what a sequence computes is worth writing.
    pub(crate) fn is_worth(&self, id: SeqId) -> bool {
        !self.unwanted.contains(&id)
    }

    /// Report what a sequence rests on once more, as far as the store does not have it: a block may have been
    /// computed for somebody who was not worth writing, or been given up by the store since.
    pub(crate) fn complete(&self, id: SeqId, scheduler: &mut Scheduler) {
        if self.is_worth(id) {
            let stored = |keys: &[BlockKey]| self.store.find(keys).iter().map(Result::is_ok).collect();
            let n_offered = scheduler.offer_again(id, &stored);
            if n_offered > 0 {
                tracing::debug!(n_offered, "resident blocks that the store lacks are saved again");
            }
        }
    }

    /// Offer what was completed since the last call, and what the store had no room for then.
    pub(crate) fn offer(
        &mut self,
        scheduler: &mut Scheduler,
        runner: &mut dyn ModelRunner,
        tail_reason: SaveReason,
    ) {
        let block_tokens = runner.layout().block_tokens;
        let n_pieces = runner.layout().state.n_pieces as u16;
        for block in scheduler.take_completed() {
            if block.seq.is_some_and(|seq| self.unwanted.contains(&seq)) {
                scheduler.mark_saved(&block.key);
                continue;
            }
            let reason = match block.tokens.len() == block_tokens {
                _ if block.key.group.is_state() => SaveReason::Checkpoint { n_pieces },
                true => SaveReason::BlockFull,
                false => tail_reason,
            };
            self.waiting.push_back((block, reason));
        }
        // A sequence that is gone completes nothing any more.
        self.unwanted.retain(|id| scheduler.state(*id).is_some());
        while let Some((block, reason)) = self.waiting.pop_front() {
            let n_tokens = block.tokens.len();
            // A state takes as much whatever it is the state of.
            let (bytes, exported) = if n_tokens == block_tokens || block.key.group.is_state() {
                let mut bytes = self.store.buffer(self.block_bytes);
                let exported = runner.export_block(block.block, &mut bytes);
                (bytes, exported)
            } else {
                // Of a tail only what its tokens take: most conversations' last block has few.
                let part = BlockPart { group_idx: block.key.group.idx(), n_tokens };
                let mut bytes = vec![0; runner.part_bytes(part)];
                let exported = runner.export_part(block.block, part, &mut bytes);
                (BlockBytes::from(bytes), exported)
            };
            if let Err(error) = exported {
                // Not saved is a miss later on, never a wrong answer.
                tracing::warn!(%error, "a block could not be read from the pool and is not saved");
                scheduler.mark_saved(&block.key);
                continue;
            }
            let record = BlockRecord {
                key: block.key,
                parent: block.parent,
                fingerprint: self.fingerprint,
                tokens: block.tokens.clone(),
                reason,
                bytes,
            };
            if self.store.save(record).is_err() {
                self.waiting.push_front((block, reason));
                return;
            }
        }
    }

    /// The store has news.
    pub(crate) fn hear(&mut self, event: &StoreEvent, scheduler: &mut Scheduler) {
        match event {
            StoreEvent::Saved(keys) => {
                keys.iter().for_each(|key| scheduler.mark_saved(key));
            }
            // In trouble, the pool keeps what it can until it is offered again. Without, these were deleted on their
            // way or are of no use to the store, and nobody waits for them.
            StoreEvent::NotSaved(keys) if scheduler.store() == StoreMode::On => {
                keys.iter().for_each(|key| scheduler.mark_saved(key));
            }
            StoreEvent::NotSaved(_) => {}
            StoreEvent::Lost(keys) => {
                let keys = keys.iter().copied().collect();
                let n_offered = scheduler.offer_lost(&keys);
                tracing::debug!(n_offered, "blocks whose files are gone are saved again");
            }
            StoreEvent::Failing(_) => {
                self.waiting.clear();
                scheduler.set_store(StoreMode::Off);
            }
            StoreEvent::Recovered => scheduler.set_store(StoreMode::On),
        }
    }
}
