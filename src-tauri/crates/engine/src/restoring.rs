//! Stored blocks on their way back into the pool.
//!
//! A restore is a transaction of one sequence: whatever goes wrong is a miss with a reason, and the sequence goes on
//! with what came in. The store reads on its own thread; here the bytes are compared and copied, a bounded number
//! between two steps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use scheduler::{BlockKey, ModelRunner, Restore, RestoreBlock, Scheduler, SeqId, SeqState};
use store::{BlockRecord, BlockStore, MissReason};

use crate::command::Command;
use crate::saving::stored_key;
use crate::stats::Totals;

/// A block that a sequence could have used, and why it was not to be had.
pub(crate) struct Miss {
    pub(crate) seq: SeqId,
    pub(crate) key: BlockKey,
    pub(crate) reason: MissReason,
}

/// Bytes imported between two steps at most, so that the others' next token does not wait for them.
const IMPORT_BYTES: usize = 32 << 20;

/// Restores under way and those whose bytes have arrived.
pub(crate) struct Restoring {
    store: Arc<dyn BlockStore>,
    fingerprint: [u8; 32],
    inbox: Sender<Command>,
    asked: BTreeMap<SeqId, Vec<RestoreBlock>>,
    arrived: VecDeque<Arrival>,
}

/// One sequence's blocks, with what the store found for each.
struct Arrival {
    seq: SeqId,
    blocks: VecDeque<(RestoreBlock, Result<BlockRecord, MissReason>)>,
    imported: Vec<BlockKey>,
}

impl Restoring {
    pub(crate) fn new(
        store: Arc<dyn BlockStore>,
        fingerprint: [u8; 32],
        inbox: Sender<Command>,
    ) -> Restoring {
        Restoring { store, fingerprint, inbox, asked: BTreeMap::new(), arrived: VecDeque::new() }
    }

    /// Whether the store may have a block.
    pub(crate) fn may_have(&self, key: &BlockKey) -> bool {
        self.store.is_on() && self.store.find(&stored_key(key)).is_ok()
    }

    /// Whether there is something to import.
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Ask the store for a sequence's blocks; the answer comes through the inbox.
    pub(crate) fn begin(&mut self, restore: Restore) {
        let Restore { seq, blocks } = restore;
        let keys = blocks.iter().map(|block| stored_key(&block.key)).collect();
        self.asked.insert(seq, blocks);
        let inbox = self.inbox.clone();
        self.store.restore(
            keys,
            Box::new(move |blocks| {
                // An engine that has ended needs nothing.
                let _ = inbox.send(Command::Restored { seq, blocks });
            }),
        );
    }

    /// The store has answered.
    pub(crate) fn arrived(&mut self, seq: SeqId, found: Vec<Result<BlockRecord, MissReason>>) {
        let Some(blocks) = self.asked.remove(&seq) else { return };
        // A store that gives too few results has not found the others.
        let found = found.into_iter().chain(std::iter::repeat_with(|| Err(MissReason::Absent)));
        let blocks = blocks.into_iter().zip(found).collect();
        self.arrived.push_back(Arrival { seq, blocks, imported: Vec::new() });
    }

    /// Why a block is not in the store, if it is not.
    pub(crate) fn why_missing(&self, key: &BlockKey) -> Option<MissReason> {
        self.store.find(&stored_key(key)).err()
    }

    /// Import what has arrived, up to a bound. Returns what could not be had.
    pub(crate) fn import(
        &mut self,
        scheduler: &mut Scheduler,
        runner: &mut dyn ModelRunner,
        totals: &mut Totals,
    ) -> Vec<Miss> {
        let mut misses = Vec::new();
        let block_bytes = runner.layout().block_bytes;
        let mut n_left = (IMPORT_BYTES / block_bytes).max(1);
        while let Some(arrival) = self.arrived.front_mut() {
            // The blocks of a sequence that is gone may belong to another one by now.
            if scheduler.state(arrival.seq) == Some(SeqState::Restoring) {
                while n_left > 0
                    && let Some((wanted, found)) = arrival.blocks.pop_front()
                {
                    let record =
                        found.and_then(|record| check(record, &wanted, self.fingerprint, block_bytes));
                    let imported = record.and_then(|record| {
                        n_left -= 1;
                        runner.import_block(wanted.block, &record.bytes).map_err(|error| {
                            tracing::warn!(%error, "a stored block could not be put into the pool");
                            MissReason::Io
                        })
                    });
                    match imported {
                        Ok(()) => {
                            totals.restored_blocks += 1;
                            arrival.imported.push(wanted.key);
                        }
                        Err(reason) => misses.push(Miss { seq: arrival.seq, key: wanted.key, reason }),
                    }
                }
                if !arrival.blocks.is_empty() {
                    return misses;
                }
                scheduler.finish_restore(arrival.seq, &arrival.imported);
            }
            self.arrived.pop_front();
        }
        misses
    }
}

/// Whether a record is what was asked for: its hash leads to it, and its tokens prove it.
fn check(
    record: BlockRecord,
    wanted: &RestoreBlock,
    fingerprint: [u8; 32],
    block_bytes: usize,
) -> Result<BlockRecord, MissReason> {
    if record.fingerprint != fingerprint {
        return Err(MissReason::Foreign);
    }
    let is_it = record.key == stored_key(&wanted.key) && record.tokens == wanted.tokens;
    if is_it && record.bytes.len() == block_bytes { Ok(record) } else { Err(MissReason::Corrupt) }
}
