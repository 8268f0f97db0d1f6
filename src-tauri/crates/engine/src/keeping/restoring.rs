//! Stored blocks on their way back into the pool.
//!
//! A restore is a transaction of one sequence: whatever goes wrong is a miss with a reason, and the sequence goes on
//! with what came in. It goes in pieces: the store reads them into the pool's own blocks, which are lent to it, and
//! verifies them on its own threads, while the engine thread goes on stepping with the others and compares what has
//! come. Where the pool cannot lend, the engine thread copies too.
//!
//! ```text
//!  store    [ read 0 ][ read 2 ][ read 4 ]...        a bounded number is asked for and not looked at
//!           [ read 1 ][ read 3 ]...
//!  engine             [ import 0 ][ step ][ import 1 ][ step ]...
//! ```
//!
//! A lent block stays its sequence's until it is back: one that ends meanwhile keeps its blocks that long.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use scheduler::{BlockKey, BlockPart, KvLayout, ModelRunner, Restore, RestoreBlock, Scheduler, SeqId};
use store::{BlockBytes, BlockRecord, BlockStore, MissReason, Wanted};

use crate::inbox::command::Command;
use crate::told::model_name::ModelName;
use crate::told::stats::Totals;

/// Bytes imported between two steps at most, so that the others' next token does not wait for them.
const IMPORT_BYTES: usize = 32 << 20;

/// Bytes of a piece: enough of them that the store and the engine work at the same time.
const PIECE_BYTES: usize = 4 << 20;

/// Pieces of a sequence that are asked for and not looked at, at most: what a sequence that ends still waits for, and
/// others behind it.
const MAX_LENT_PIECES: usize = 16;

/// The same where they take memory beside the pool.
const MAX_BUFFERED_PIECES: usize = 3;

/// A block that a sequence could have used, and why it was not to be had.
pub(crate) struct Miss {
    pub(crate) seq: SeqId,
    pub(crate) key: BlockKey,
    pub(crate) reason: MissReason,
}

/// Restores under way and those whose bytes have arrived.
pub(crate) struct Restoring {
    store: Arc<dyn BlockStore>,
    model: ModelName,
    fingerprint: [u8; 32],
    block_bytes: usize,
    inbox: Sender<Command>,
    under_way: BTreeMap<SeqId, UnderWay>,
    arrived: VecDeque<Arrival>,
}

/// One sequence's restore.
struct UnderWay {
    /// Not asked for yet.
    left: VecDeque<RestoreBlock>,
    /// Asked for, by the number of the piece.
    asked: BTreeMap<u64, Vec<RestoreBlock>>,
    n_pieces: u64,
    /// How many may be asked for at the same time.
    max_pieces: usize,
    imported: Vec<BlockKey>,
    /// Nobody waits for it any more; what was asked for is still to come back.
    is_ended: bool,
}

/// One piece, with what the store found for each of its blocks.
struct Arrival {
    seq: SeqId,
    blocks: VecDeque<(RestoreBlock, Result<BlockRecord, MissReason>)>,
}

impl Restoring {
    pub(crate) fn new(
        store: Arc<dyn BlockStore>,
        model: ModelName,
        fingerprint: [u8; 32],
        layout: &KvLayout,
        inbox: Sender<Command>,
    ) -> Restoring {
        let (under_way, arrived) = (BTreeMap::new(), VecDeque::new());
        let block_bytes = layout.block_bytes;
        Restoring { store, model, fingerprint, block_bytes, inbox, under_way, arrived }
    }

    /// Which of these blocks the store has.
    pub(crate) fn are_stored(&self, keys: &[BlockKey]) -> Vec<bool> {
        self.store.find(keys).iter().map(Result::is_ok).collect()
    }

    /// The first of these blocks that is not in the store, and why.
    pub(crate) fn first_missing(&self, keys: &[BlockKey]) -> Option<(BlockKey, MissReason)> {
        keys.iter().zip(self.store.find(keys)).find_map(|(key, found)| Some((*key, found.err()?)))
    }

    /// Whether there is something to import.
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Ask the store for a sequence's blocks; the answers come through the inbox.
    pub(crate) fn begin(&mut self, restore: Restore, runner: &mut dyn ModelRunner) {
        let Restore { seq, mut blocks } = restore;
        // The kinds lie apart on disk, and each in this order; a state is of no use where a block is missing.
        blocks.sort_by_key(|wanted| (wanted.key.group.is_state(), wanted.key.group.is_window()));
        let under_way = UnderWay {
            left: blocks.into(),
            asked: BTreeMap::new(),
            n_pieces: 0,
            max_pieces: MAX_LENT_PIECES,
            imported: Vec::new(),
            is_ended: false,
        };
        self.under_way.insert(seq, under_way);
        self.ask(seq, runner);
    }

    /// A sequence needs nothing any more. False when blocks of it are still lent: then it has to stay in the
    /// scheduler until [`Restoring::arrived`] names it.
    pub(crate) fn end(&mut self, seq: SeqId) -> bool {
        self.arrived.retain(|arrival| arrival.seq != seq);
        let Some(under_way) = self.under_way.get_mut(&seq) else { return true };
        if under_way.asked.is_empty() {
            self.under_way.remove(&seq);
            return true;
        }
        under_way.left.clear();
        under_way.is_ended = true;
        false
    }

    /// Ask for the next pieces of a sequence.
    fn ask(&mut self, seq: SeqId, runner: &mut dyn ModelRunner) {
        let Some(under_way) = self.under_way.get_mut(&seq) else { return };
        let n_blocks = (PIECE_BYTES / self.block_bytes).max(1);
        while !under_way.left.is_empty() && under_way.asked.len() < under_way.max_pieces {
            let blocks: Vec<RestoreBlock> =
                under_way.left.drain(..n_blocks.min(under_way.left.len())).collect();
            let wanted = blocks.iter().map(|wanted| Wanted {
                key: wanted.key,
                fingerprint: self.fingerprint,
                room: runner.lend_block(wanted.block).map(BlockBytes::lent),
            });
            let wanted: Vec<Wanted> = wanted.collect();
            if wanted.iter().any(|wanted| wanted.room.is_none()) {
                under_way.max_pieces = MAX_BUFFERED_PIECES;
            }
            let piece = under_way.n_pieces;
            under_way.n_pieces += 1;
            under_way.asked.insert(piece, blocks);
            let (inbox, model) = (self.inbox.clone(), self.model.clone());
            self.store.restore(
                wanted,
                Box::new(move |blocks| {
                    // An engine that has ended needs nothing.
                    let _ = inbox.send(Command::Restored { model, seq, piece, blocks });
                }),
            );
        }
    }

    /// The store has answered. Returns whether that was the last thing that a sequence which has ended waited for.
    pub(crate) fn arrived(
        &mut self,
        seq: SeqId,
        piece: u64,
        found: Vec<Result<BlockRecord, MissReason>>,
    ) -> bool {
        let Some(under_way) = self.under_way.get_mut(&seq) else { return false };
        let Some(blocks) = under_way.asked.remove(&piece) else { return false };
        if under_way.is_ended {
            // What was lent for it comes back with that.
            drop(found);
            let is_last = under_way.asked.is_empty();
            if is_last {
                self.under_way.remove(&seq);
            }
            return is_last;
        }
        // A store that gives too few results has not found the others.
        let found = found.into_iter().chain(std::iter::repeat_with(|| Err(MissReason::Absent)));
        self.arrived.push_back(Arrival { seq, blocks: blocks.into_iter().zip(found).collect() });
        false
    }

    /// Import what has arrived, up to a bound. Returns what could not be had.
    pub(crate) fn import(
        &mut self,
        scheduler: &mut Scheduler,
        runner: &mut dyn ModelRunner,
        totals: &mut Totals,
    ) -> Vec<Miss> {
        let mut misses = Vec::new();
        let mut n_left = (IMPORT_BYTES / self.block_bytes).max(1);
        while n_left > 0
            && let Some(mut arrival) = self.arrived.pop_front()
        {
            let seq = arrival.seq;
            let Some(under_way) = self.under_way.get_mut(&seq) else { continue };
            while n_left > 0
                && let Some((wanted, found)) = arrival.blocks.pop_front()
            {
                let part = BlockPart { group_idx: wanted.key.group.idx(), n_tokens: wanted.tokens.len() };
                let is_state = wanted.key.group.is_state();
                let n_part = if is_state { self.block_bytes } else { runner.part_bytes(part) };
                // Its hash leads to it, and its tokens prove it.
                let is_it = |record: &BlockRecord| record.key == wanted.key && record.tokens == wanted.tokens;
                let record = found.and_then(|record| match record {
                    record if record.fingerprint != self.fingerprint => Err(MissReason::Foreign),
                    record if is_it(&record) && [self.block_bytes, n_part].contains(&record.bytes.len()) => {
                        Ok(record)
                    }
                    _ => Err(MissReason::Corrupt),
                });
                let imported = record.and_then(|record| {
                    n_left -= 1;
                    // What was read into the pool is where it belongs.
                    if record.bytes.is_lent() {
                        return Ok(());
                    }
                    let imported = match record.bytes.len() == self.block_bytes {
                        true => runner.import_block(wanted.block, &record.bytes),
                        false => runner.import_part(wanted.block, part, &record.bytes),
                    };
                    imported.map_err(|error| {
                        tracing::warn!(%error, "a stored block could not be put into the pool");
                        MissReason::Io
                    })
                });
                match imported {
                    Ok(()) => {
                        totals.restored_blocks += 1;
                        under_way.imported.push(wanted.key);
                    }
                    Err(reason) => {
                        misses.push(Miss { seq, key: wanted.key, reason });
                        // What follows a gap is of no use.
                        under_way.left.clear();
                    }
                }
            }
            if !arrival.blocks.is_empty() {
                self.arrived.push_front(arrival);
            } else if under_way.left.is_empty() && under_way.asked.is_empty() && !self.has_arrived(seq) {
                if let Some(done) = self.under_way.remove(&seq) {
                    scheduler.finish_restore(seq, &done.imported);
                }
            } else {
                self.ask(seq, runner);
            }
        }
        misses
    }

    fn has_arrived(&self, seq: SeqId) -> bool {
        self.arrived.iter().any(|arrival| arrival.seq == seq)
    }
}
