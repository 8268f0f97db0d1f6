//! The pool as a cache of prefixes: allocation that keeps the index true, and the search for the longest hit.
//!
//! ```text
//!  prompt   [ b0 ][ b1 ][ b2 ][ b3 ][ b4 ][ b5 ]..tail
//!  full     [ ok ][ ok ][ ok ][ ok ][ ok ]              every block of [0, b)
//!  window   [ -- ][ -- ][ -- ][ ok ][ ok ]              only the blocks covering [b - window, b)
//!                                       ^ b; then the common leading slots of one child block, copied on write
//! ```
//!
//! Where layers have a state instead of rows a token, a checkpoint has to stand at `b`; the leading slots of a block are
//! used then only up to one that stands within it, at the end of what an answer left behind.

use std::collections::HashSet;

use address::{BlockKey, ChainHash};

use crate::block_pool::BlockPool;
use crate::chain_hasher::ChainHasher;
use crate::footprint::Footprint;
use crate::ids::{BlockId, TokenId};
use crate::plan::{CheckpointClass, FormerBlock, StoreMode};
use crate::prefix_index::{PrefixIndex, n_common};

/// Says which of these blocks a store could supply, one answer for each; `None` asks for what is in the pool only.
pub type Stored<'a> = Option<&'a dyn Fn(&[BlockKey]) -> Vec<bool>>;

/// Blocks of a prompt that a store is asked for at once: enough that a long prompt takes few questions, few enough
/// that one whose start is not there is cheap.
const BLOCKS_A_QUESTION: usize = 64;

/// Where a prompt can be taken up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hit {
    /// Leading tokens whose KV is there.
    pub n_tokens: usize,
    /// The block of which the last `n_tokens % block_tokens` slots' worth is used, when that is not 0.
    pub tail: Option<Tail>,
    /// The checkpoint at its end, where the model has states.
    pub state: Option<ChainHash>,
    /// Leading tokens whose KV is there, with or without a state at their end; at least `n_tokens`.
    pub n_with_kv: usize,
}

/// A block of which the leading slots are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Its chain hash.
    pub hash: ChainHash,
    /// All its tokens, the unused ones too.
    pub tokens: Vec<TokenId>,
}

/// A block that a hit rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HitBlock {
    /// Its address.
    pub key: BlockKey,
    /// Its index in blocks from the sequence's start.
    pub block_idx: usize,
}

/// A prompt of which the longest prefix is looked for.
#[derive(Clone, Copy)]
pub(crate) struct Prompt<'a> {
    pub(crate) tokens: &'a [TokenId],
    /// Of its whole blocks.
    pub(crate) hashes: &'a [ChainHash],
    /// Leading tokens that may be taken from the cache.
    pub(crate) limit: usize,
    /// Whole blocks whose KV is there.
    pub(crate) n_whole: usize,
    /// Where earlier answers end in it.
    pub(crate) answer_ends: &'a [usize],
}

/// What became of a block that was to be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// It has the address now.
    New,
    /// Another block has it; that one is to be used.
    Taken(BlockId),
    /// The address belongs to other tokens: nothing that follows may be registered either.
    Collision,
}

/// Pool and index, kept in step.
#[derive(Debug, Clone)]
pub struct PrefixCache {
    /// Which blocks are free, held, cached.
    pub pool: BlockPool,
    /// Block arithmetic of the layout.
    pub footprint: Footprint,
    /// Addresses under the model's fingerprint.
    pub hasher: ChainHasher,
    pub(crate) index: PrefixIndex,
}

impl PrefixCache {
    /// An empty cache of `n_blocks` blocks.
    pub fn new(footprint: Footprint, n_blocks: usize, salt: [u8; 32], store: StoreMode) -> PrefixCache {
        PrefixCache {
            pool: BlockPool::new(n_blocks, store),
            footprint,
            hasher: ChainHasher::new(salt),
            index: PrefixIndex::default(),
        }
    }

    /// Take a block, evicting the idle one that is worth least when none is free.
    pub fn alloc(&mut self) -> Option<BlockId> {
        let (block, evicted) = self.pool.alloc()?;
        evicted.iter().for_each(|key| self.index.remove(&key.hash));
        Some(block)
    }

    /// Take the blocks of a state; the first stands for all.
    pub fn alloc_state(&mut self, class: CheckpointClass) -> Option<BlockId> {
        let (block, evicted) = self.pool.alloc_state(self.footprint.n_pieces(), class)?;
        evicted.iter().for_each(|key| self.index.remove(&key.hash));
        Some(block)
    }

    /// Give a held block its address: the prefix `parent` followed by `tokens`.
    pub fn register(
        &mut self,
        block: BlockId,
        key: BlockKey,
        parent: &ChainHash,
        tokens: &[TokenId],
        is_saved: bool,
    ) -> Registered {
        if !self.index.agrees(&key.hash, parent, tokens) {
            return Registered::Collision;
        }
        if let Some(other) = self.pool.lookup(&key) {
            return Registered::Taken(other);
        }
        if !self.pool.register(block, key, is_saved) {
            return Registered::Collision;
        }
        self.index.add(key.hash, *parent, tokens);
        // No state serves for one at an earlier place.
        if !key.group.is_state() {
            self.drop_covered_tails(&key, parent, tokens);
        }
        Registered::New
    }

    /// Free an idle block if it is evictable; false if it is not.
    pub fn evict(&mut self, block: BlockId) -> bool {
        let key = self.pool.evict(block);
        if let Some(key) = &key {
            self.index.remove(&key.hash);
        }
        key.is_some()
    }

    /// Make a block that only the caller holds writable in place, giving up its cached content, and with it the idle
    /// blocks that continue it: nothing leads to them any more. False if refused.
    pub fn take_over(&mut self, block: BlockId) -> bool {
        let Some(key) = self.pool.take_over(block) else { return false };
        let mut frontier: Vec<ChainHash> = self.index.children(&key.hash).to_vec();
        self.index.remove(&key.hash);
        while let Some(hash) = frontier.pop() {
            frontier.extend(self.index.children(&hash));
            if let Some(block) = self.pool.lookup(&BlockKey { hash, group: key.group }) {
                self.evict(block);
            }
        }
        true
    }

    /// Drop a node and all that continues it, saved and pinned or not, except for blocks that somebody holds; those
    /// of `own` go too when nobody else holds them. Returns the addresses that are gone.
    pub fn forget_from(&mut self, hash: ChainHash, own: &HashSet<BlockId>) -> Vec<BlockKey> {
        let mut gone = Vec::new();
        let mut frontier = vec![hash];
        while let Some(hash) = frontier.pop() {
            frontier.extend(self.index.children(&hash));
            for key in self.footprint.keys(hash).chain(self.footprint.state_keys(hash).take(1)) {
                let Some(block) = self.pool.lookup(&key) else { continue };
                let pieces = if key.group.is_state() { self.footprint.n_pieces() } else { 0 };
                if self.pool.forget(block, own.contains(&block)) {
                    self.index.remove(&hash);
                    gone.push(key);
                    gone.extend(self.footprint.state_keys(hash).take(pieces).skip(1));
                }
            }
        }
        gone
    }

    /// Whether a block of the same group in the pool continues this one; nothing continues a state.
    pub fn is_continued(&self, key: &BlockKey) -> bool {
        if key.group.is_state() {
            return false;
        }
        let continues =
            |hash: &ChainHash| self.pool.lookup(&BlockKey { hash: *hash, group: key.group }).is_some();
        self.index.children(&key.hash).iter().any(continues)
    }

    /// The longest prefix of `tokens[..limit]` that can be taken up.
    ///
    /// `hashes` are the addresses of the whole blocks of `tokens`. Blocks count as there when they are in the pool
    /// or `stored` says so; `former` is one that the store may have, and where earlier answers end it may have a state.
    pub fn find_hit(
        &self,
        tokens: &[TokenId],
        hashes: &[ChainHash],
        limit: usize,
        stored: Stored<'_>,
        (former, answer_ends): (Option<&FormerBlock>, &[usize]),
    ) -> Hit {
        let n_whole = self.n_reachable(tokens, hashes, limit, stored);
        if self.footprint.n_pieces() > 0 {
            return self.find_checkpoint(
                Prompt { tokens, hashes, limit, n_whole, answer_ends },
                stored,
                former,
            );
        }
        let parent = if n_whole == 0 { self.hasher.root() } else { hashes[n_whole - 1] };
        let start = n_whole * self.footprint.block_tokens();
        for (tail, n_slots) in self.tail_candidates(&parent, tokens, hashes, start..limit, stored, former) {
            let n_tokens = start + n_slots;
            let hit = Hit { n_tokens, tail: Some(tail), state: None, n_with_kv: n_tokens };
            if self.first_gap(&hit, hashes, stored).is_none() {
                return hit;
            }
        }
        let mut n_blocks = n_whole;
        loop {
            let n_tokens = n_blocks * self.footprint.block_tokens();
            let hit = Hit { n_tokens, tail: None, state: None, n_with_kv: n_tokens };
            match self.first_gap(&hit, hashes, stored) {
                None => return hit,
                // Every boundary after the missing block, up to this one, looks into it too.
                Some(gap) => n_blocks = gap,
            }
        }
    }

    /// The blocks that a hit rests on, by block index, then group; without its checkpoint's.
    pub fn hit_blocks(&self, hit: &Hit, hashes: &[ChainHash]) -> Vec<HitBlock> {
        let n_whole = hit.n_tokens / self.footprint.block_tokens();
        let n_groups = self.footprint.n_groups();
        let first: Vec<usize> =
            (0..n_groups).map(|group_idx| self.footprint.first_needed(group_idx, hit.n_tokens)).collect();
        let lowest = first.iter().copied().min().unwrap_or(0);
        let whole = hashes[..n_whole].iter().copied();
        let all = whole.chain(hit.tail.iter().map(|tail| tail.hash)).enumerate().skip(lowest);
        let mut blocks = Vec::new();
        for (block_idx, hash) in all {
            let groups = (0..n_groups).filter(|&group_idx| block_idx >= first[group_idx]);
            blocks.extend(
                groups.map(|group_idx| HitBlock { key: self.footprint.key(hash, group_idx), block_idx }),
            );
        }
        blocks
    }

    /// The blocks in the pool that a walk from the root reaches, parents before children.
    pub fn walk(&self) -> Vec<(BlockKey, BlockId, ChainHash, usize)> {
        let mut found = Vec::new();
        let mut frontier = vec![(self.hasher.root(), 0)];
        while let Some((parent, block_idx)) = frontier.pop() {
            for &hash in self.index.children(&parent) {
                for key in self.footprint.keys(hash) {
                    found.extend(self.pool.lookup(&key).map(|block| (key, block, parent, block_idx)));
                }
                frontier.push((hash, block_idx + 1));
            }
        }
        found
    }

    /// The tokens of a node in the pool.
    pub fn tokens(&self, hash: &ChainHash) -> Option<&[TokenId]> {
        self.index.tokens(hash)
    }

    /// Check pool and index against each other and against the number of table entries of each block.
    ///
    /// # Errors
    /// Names the first contradiction.
    #[cfg(test)]
    pub(crate) fn check_integrity(&self, holders: &[u32]) -> Result<(), String> {
        self.pool.check_integrity(holders)?;
        let mut n_groups: std::collections::HashMap<ChainHash, usize> = std::collections::HashMap::new();
        for key in self.pool.keys() {
            *n_groups.entry(key.hash).or_default() += 1;
        }
        self.index.check_integrity(&n_groups)
    }

    /// Check that every block of a full-attention group still has the block before it, and that of two idle ones
    /// the one before goes later. Unsaved and pinned blocks may outlive their prefix.
    #[cfg(test)]
    pub(crate) fn check_prefixes_outlive(&self) -> Result<(), String> {
        let is_full = |key: &&BlockKey| !key.group.is_state() && self.footprint.is_full(key.group.idx());
        for key in self.pool.keys().filter(is_full) {
            let parent = self.index.parent(&key.hash).ok_or("an address without a node")?;
            if parent == self.hasher.root() {
                continue;
            }
            let parent = self.pool.lookup(&BlockKey { hash: parent, group: key.group });
            let parent = parent.ok_or(format!("{key:?} has lost its prefix"))?;
            let block = self.pool.lookup(key).ok_or("an address without a block")?;
            if let (Some(a), Some(b)) = (self.pool.idle_since(parent), self.pool.idle_since(block))
                && a < b
            {
                return Err(format!("{parent:?} would be evicted before {block:?}, which follows it"));
            }
        }
        Ok(())
    }

    /// How many whole blocks match in every full-attention group.
    fn n_reachable(
        &self,
        tokens: &[TokenId],
        hashes: &[ChainHash],
        limit: usize,
        stored: Stored<'_>,
    ) -> usize {
        let block_tokens = self.footprint.block_tokens();
        let full: Vec<usize> =
            (0..self.footprint.n_groups()).filter(|&g| self.footprint.is_full(g)).collect();
        let n_whole = hashes.len().min(limit / block_tokens);
        let mut parent = self.hasher.root();
        let mut blocks = tokens.chunks_exact(block_tokens).enumerate();
        for piece in hashes[..n_whole].chunks(BLOCKS_A_QUESTION) {
            let of = |&hash| full.iter().map(move |&group_idx| self.footprint.key(hash, group_idx));
            let keys: Vec<BlockKey> = piece.iter().flat_map(of).collect();
            let mut are_there = self.are_there(&keys, stored).into_iter();
            for (hash, (block_idx, block)) in piece.iter().zip(&mut blocks) {
                let is_there = are_there.by_ref().take(full.len()).fold(true, |all, is| all & is);
                if !is_there || !self.index.agrees(hash, &parent, block) {
                    return block_idx;
                }
                parent = *hash;
            }
        }
        n_whole
    }

    /// Blocks that could supply the slots of `range`, those with most common tokens first.
    pub(crate) fn tail_candidates(
        &self,
        parent: &ChainHash,
        tokens: &[TokenId],
        hashes: &[ChainHash],
        range: std::ops::Range<usize>,
        stored: Stored<'_>,
        former: Option<&FormerBlock>,
    ) -> Vec<(Tail, usize)> {
        let block_tokens = self.footprint.block_tokens();
        let start = range.start;
        let end = range.end.min(start + block_tokens - 1);
        if end <= start {
            return Vec::new();
        }
        let wanted = &tokens[start..end];
        let resident =
            self.index.children_sharing(parent, wanted).into_iter().filter_map(|(hash, n_slots)| {
                Some((Tail { hash, tokens: self.tokens(&hash)?.to_vec() }, n_slots))
            });
        let mut candidates: Vec<(Tail, usize)> = resident.collect();
        let Some(stored) = stored else { return candidates };
        let mut in_store = Vec::new();
        let is_next = |former: &&FormerBlock| {
            former.block_idx * block_tokens == start
                && self.hasher.child(parent, &former.tokens) == former.hash
        };
        if let Some(former) = former.filter(is_next) {
            let n_slots = n_common(&former.tokens, wanted);
            if n_slots > 0 {
                in_store.push((Tail { hash: former.hash, tokens: former.tokens.clone() }, n_slots));
            }
        }
        // Beside that, only exact tokens can be looked for in the store: the whole block, and each leading part of it.
        if let Some(hash) = hashes.get(start / block_tokens) {
            let tail = Tail { hash: *hash, tokens: tokens[start..start + block_tokens].to_vec() };
            in_store.push((tail, wanted.len()));
        }
        for n_slots in 1..=wanted.len() {
            let hash = self.hasher.child(parent, &wanted[..n_slots]);
            in_store.push((Tail { hash, tokens: wanted[..n_slots].to_vec() }, n_slots));
        }
        let keys: Vec<BlockKey> = in_store.iter().map(|(tail, _)| self.footprint.key(tail.hash, 0)).collect();
        let found = in_store.into_iter().zip(stored(&keys));
        candidates.extend(found.filter_map(|(candidate, is_there)| is_there.then_some(candidate)));
        candidates.sort_by_key(|(_, n_slots)| std::cmp::Reverse(*n_slots));
        candidates
    }

    /// Block index of the first block that a hit would need and that is not there.
    pub(crate) fn first_gap(&self, hit: &Hit, hashes: &[ChainHash], stored: Stored<'_>) -> Option<usize> {
        let n_whole = hit.n_tokens / self.footprint.block_tokens();
        let of_tail = hit.tail.iter().flat_map(|tail| self.footprint.keys(tail.hash));
        let windows = (0..self.footprint.n_groups()).filter(|&group_idx| !self.footprint.is_full(group_idx));
        let of_windows = windows.flat_map(|group_idx| {
            let first = self.footprint.first_needed(group_idx, hit.n_tokens);
            (first..n_whole).map(move |i| (i, self.footprint.key(hashes[i], group_idx)))
        });
        let (blocks, keys): (Vec<usize>, Vec<BlockKey>) =
            of_tail.map(|key| (n_whole, key)).chain(of_windows).unzip();
        let are_there = self.are_there(&keys, stored);
        blocks
            .into_iter()
            .zip(are_there)
            .filter(|(_, is_there)| !is_there)
            .map(|(block_idx, _)| block_idx)
            .min()
    }

    /// For each of these blocks, whether it is in the pool or the store could supply it, which is asked once.
    pub(crate) fn are_there(&self, keys: &[BlockKey], stored: Stored<'_>) -> Vec<bool> {
        let mut are_there: Vec<bool> = keys.iter().map(|key| self.pool.lookup(key).is_some()).collect();
        if let Some(stored) = stored {
            let is_missing = |(_, is_there): &(&BlockKey, &mut bool)| !**is_there;
            let (asked, answers): (Vec<BlockKey>, Vec<&mut bool>) = keys
                .iter()
                .zip(&mut are_there)
                .filter(is_missing)
                .map(|(key, answer)| (*key, answer))
                .unzip();
            if !asked.is_empty() {
                answers.into_iter().zip(stored(&asked)).for_each(|(answer, is_there)| *answer = is_there);
            }
        }
        are_there
    }

    /// Free idle tails that the new block contains: it serves all that they could.
    fn drop_covered_tails(&mut self, key: &BlockKey, parent: &ChainHash, tokens: &[TokenId]) {
        let covered: Vec<BlockId> = self
            .index
            .children(parent)
            .iter()
            .filter(|hash| self.tokens(hash).is_some_and(|t| t.len() < tokens.len() && tokens.starts_with(t)))
            .filter_map(|hash| self.pool.lookup(&BlockKey { hash: *hash, group: key.group }))
            .collect();
        for block in covered {
            self.evict(block);
        }
    }
}
