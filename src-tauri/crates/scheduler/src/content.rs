//! What a caller asks about content rather than about sequences: the addresses of tokens, and where their KV is.

use std::collections::HashSet;

use address::{BlockKey, ChainHash};

use crate::addresses::Addresses;
use crate::block_pool::Retention;
use crate::ids::{BlockId, SeqId, TokenId};
use crate::plan::{CheckpointClass, CompletedBlock, FormerBlock, StoreMode};
use crate::scheduler::Scheduler;
use crate::sequence::block_at;
use crate::step::{BlockTable, Row, RowInput, RowState, Step, Wanted};

impl Scheduler {
    /// The addresses of `tokens`.
    pub fn addresses(&self, tokens: &[TokenId]) -> Addresses {
        let hasher = &self.cache.hasher;
        let whole = hasher.whole_blocks(tokens, self.cache.footprint.block_tokens());
        let rest = &tokens[whole.len() * self.cache.footprint.block_tokens()..];
        let parent = whole.last().copied().unwrap_or_else(|| hasher.root());
        let tail = (!rest.is_empty()).then(|| hasher.child(&parent, rest));
        Addresses { whole, tail }
    }

    /// The block with which a conversation of `tokens` went on where `prompt` leaves its whole blocks, if the two have
    /// more in common than these. `addresses` are those of `tokens`.
    pub fn former_block(
        &self,
        tokens: &[TokenId],
        addresses: &Addresses,
        prompt: &[TokenId],
    ) -> Option<FormerBlock> {
        let block_tokens = self.cache.footprint.block_tokens();
        let own = self.cache.hasher.whole_blocks(prompt, block_tokens);
        let block_idx = own.iter().zip(&addresses.whole).take_while(|(own, former)| own == former).count();
        let start = block_idx * block_tokens;
        let is_tail = block_idx == addresses.whole.len();
        let hash = if is_tail { addresses.tail? } else { addresses.whole[block_idx] };
        let rest = tokens.get(start..)?;
        let tokens = rest[..rest.len().min(block_tokens)].to_vec();
        let is_shared = tokens.first().is_some_and(|first| prompt.get(start) == Some(first));
        is_shared.then_some(FormerBlock { block_idx, hash, tokens })
    }

    /// The blocks at these addresses, in every layer group, and the pieces of their checkpoints, in order.
    pub fn keys_at(&self, hashes: impl IntoIterator<Item = ChainHash>) -> Vec<BlockKey> {
        hashes.into_iter().flat_map(|hash| self.cache.footprint.all_keys(hash)).collect()
    }

    /// Which block addresses came into the pool (true) or went since the last call, in order.
    pub fn take_moved(&mut self) -> Vec<(BlockKey, bool)> {
        self.cache.pool.take_moved()
    }

    /// Report the blocks that a sequence rests on once more by [`Scheduler::take_completed`], as far as they count as
    /// saved and are not `stored`. Returns how many that are.
    ///
    /// A block may have been taken for one that is not worth writing, or been given up by the store since.
    pub fn offer_again(&mut self, id: SeqId, stored: &dyn Fn(&[BlockKey]) -> Vec<bool>) -> usize {
        let Some(seq) = self.seqs.get(&id).filter(|_| self.cache.pool.store() == StoreMode::On) else {
            return 0;
        };
        let block_tokens = self.cache.footprint.block_tokens();
        let mut resting = Vec::new();
        for block_idx in 0..seq.n_registered.min(seq.hashes.len()) {
            let start = block_idx * block_tokens;
            let parent = seq.parent_of(start, block_tokens, &self.cache.hasher);
            for (group_idx, table) in seq.tables.iter().enumerate() {
                let key = self.cache.footprint.key(seq.hashes[block_idx], group_idx);
                let Some(block) = block_at(table, block_idx) else { continue };
                if self.cache.pool.is_saved(block) && self.cache.pool.lookup(&key) == Some(block) {
                    resting.push((key, block, parent, block_idx));
                }
            }
        }
        let keys: Vec<BlockKey> = resting.iter().map(|(key, ..)| *key).collect();
        let missing = resting.into_iter().zip(stored(&keys)).filter(|(_, is_stored)| !is_stored);
        let offered: Vec<CompletedBlock> = missing
            .map(|((key, block, parent, block_idx), _)| {
                let start = block_idx * block_tokens;
                let tokens = seq.tokens[start..start + block_tokens].to_vec();
                CompletedBlock { block, key, parent, block_idx, tokens, seq: Some(id) }
            })
            .collect();
        for completed in &offered {
            self.cache.pool.mark_unsaved(completed.block);
        }
        let n_offered = offered.len();
        self.completed.extend(offered);
        n_offered
    }

    /// A step that reads `token` alone, in blocks that nobody holds; nothing of it is kept, and it has to run before
    /// the scheduler is asked for anything else. `None` when there are no such blocks.
    pub fn lone_step(&mut self, token: TokenId) -> Option<Step> {
        let n_groups = self.cache.footprint.n_groups();
        let blocks: Vec<BlockId> = std::iter::from_fn(|| self.cache.alloc()).take(n_groups).collect();
        let has_state = blocks.len() == n_groups && self.cache.footprint.n_pieces() > 0;
        let state = if has_state { self.cache.alloc_state(CheckpointClass::Periodic) } else { None };
        let state_blocks = state.map_or_else(Vec::new, |state| self.cache.pool.pieces(state));
        let is_whole = state_blocks.len() == self.cache.footprint.n_pieces();
        let taken = blocks.iter().copied().chain(state);
        taken.for_each(|block| self.cache.pool.release(block, Retention::OutOfReach));
        let table = |block: &BlockId| BlockTable { first_block: 0, blocks: vec![*block] };
        let row = Row {
            seq: SeqId(u64::MAX),
            input: RowInput::Tokens(vec![token]),
            start: 0,
            tables: blocks.iter().map(table).collect(),
            state: RowState { blocks: state_blocks, saves: Vec::new() },
            wanted: Wanted::LastLogits,
        };
        (blocks.len() == n_groups && is_whole).then(|| Step { copies: Vec::new(), rows: vec![row] })
    }

    /// The store no longer has these, which counted as saved: report those in the pool once more by
    /// [`Scheduler::take_completed`]. Returns how many that are.
    pub fn offer_lost(&mut self, keys: &HashSet<BlockKey>) -> usize {
        if self.cache.pool.store() == StoreMode::Off {
            // What is resident then is reported when the store is on again, as far as it does not count as saved.
            let blocks: Vec<BlockId> = keys.iter().filter_map(|key| self.cache.pool.lookup(key)).collect();
            blocks.into_iter().for_each(|block| self.cache.pool.mark_unsaved(block));
            return 0;
        }
        let lost = self.cache.walk().into_iter();
        let lost = lost.filter(|(key, block, ..)| keys.contains(key) && self.cache.pool.is_saved(*block));
        let offered: Vec<CompletedBlock> = lost
            .filter_map(|(key, block, parent, block_idx)| {
                let tokens = self.cache.tokens(&key.hash)?.to_vec();
                Some(CompletedBlock { block, key, parent, block_idx, tokens, seq: None })
            })
            .collect();
        offered.iter().for_each(|completed| self.cache.pool.mark_unsaved(completed.block));
        let n_offered = offered.len();
        self.completed.extend(offered);
        n_offered + self.offer_lost_states(keys.iter())
    }
}
