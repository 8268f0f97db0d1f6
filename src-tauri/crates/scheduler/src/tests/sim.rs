//! A pool whose slots remember which prefix they hold the KV of, so that every reuse can be proved right.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    AttentionSpan, BlockId, BlockKey, CheckedPrompt, KvDtype, KvLayout, LayerGroup, Restore, RestoreBlock,
    Row, Scheduler, SeqId, StateLayout, Step, StoreMode, TokenId, Wanted,
};

/// A prompt of any tokens.
pub(super) fn checked(tokens: Vec<TokenId>) -> CheckedPrompt {
    CheckedPrompt::new(tokens, usize::MAX).unwrap()
}

/// A layout of one layer for each of `windows`; `None` is full attention.
pub(super) fn layout(block_tokens: usize, windows: &[Option<usize>]) -> KvLayout {
    layout_with_state(block_tokens, windows, 0)
}

/// As [`layout`], with recurrent layers whose state is `n_pieces` blocks.
pub(super) fn layout_with_state(block_tokens: usize, windows: &[Option<usize>], n_pieces: usize) -> KvLayout {
    let span = |window: &Option<usize>| match *window {
        None => AttentionSpan::Full,
        Some(tokens) => AttentionSpan::Window { tokens },
    };
    let groups = windows
        .iter()
        .enumerate()
        .map(|(layer, w)| LayerGroup { span: span(w), layers: vec![layer], used_bytes: 64 })
        .collect();
    KvLayout {
        block_tokens,
        kv_dtype: KvDtype::F16,
        block_bytes: 64,
        groups,
        slots: Vec::new(),
        state: StateLayout { n_pieces, ..StateLayout::default() },
    }
}

/// The KV of position `n` of a sequence depends on its tokens up to `n`; this stands for it.
fn prefix_digests(tokens: &[TokenId]) -> Vec<u64> {
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut next = |&token: &TokenId| {
        digest = (digest ^ u64::from(token + 1)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        digest
    };
    tokens.iter().map(&mut next).collect()
}

/// Runs steps and checks that each query finds the KV of its own prefix in every slot that it looks at.
pub(super) struct FakeRunner {
    layout: KvLayout,
    slots: Vec<Vec<u64>>,
}

impl FakeRunner {
    pub(super) fn new(layout: &KvLayout, n_blocks: usize) -> FakeRunner {
        FakeRunner { layout: layout.clone(), slots: vec![vec![0; layout.block_tokens]; n_blocks] }
    }

    /// Run a step; `tokens_of` tells a sequence's whole tokens.
    pub(super) fn run(&mut self, step: &Step, tokens_of: &dyn Fn(SeqId) -> Vec<TokenId>) {
        let block_tokens = self.layout.block_tokens;
        for copy in &step.copies {
            self.slots[copy.to.idx()] = self.slots[copy.from.idx()].clone();
        }
        let mut written: HashMap<(BlockId, usize), SeqId> = HashMap::new();
        for row in &step.rows {
            let tokens = tokens_of(row.seq);
            let end = row.end();
            assert_eq!(row.tokens(), &tokens[row.start..end], "{:?} computes its own tokens", row.seq);
            let digests = prefix_digests(&tokens[..end]);
            assert_eq!(row.tables.len(), self.layout.groups.len());
            self.run_state(row, &digests, &mut written);
            for table in &row.tables {
                for (position, digest) in digests.iter().enumerate().skip(row.start) {
                    let block = table.blocks[position / block_tokens - table.first_block];
                    self.slots[block.idx()][position % block_tokens] = *digest;
                    let other = written.insert((block, position % block_tokens), row.seq);
                    assert_eq!(other, None, "no slot is written twice in a step");
                }
            }
        }
        for row in &step.rows {
            let end = row.end();
            let digests = prefix_digests(&tokens_of(row.seq)[..end]);
            for (group, table) in self.layout.groups.iter().zip(&row.tables) {
                let first = match group.span {
                    AttentionSpan::Full => 0,
                    AttentionSpan::Window { tokens } => (row.start + 1).saturating_sub(tokens),
                };
                for (position, digest) in digests.iter().enumerate().skip(first) {
                    let block = table.blocks[position / block_tokens - table.first_block];
                    let found = self.slots[block.idx()][position % block_tokens];
                    assert_eq!(found, *digest, "{:?} at {position} sees its own prefix", row.seq);
                }
            }
        }
    }

    /// Check that a row goes on with the state of its own prefix, and write those that it leaves behind.
    fn run_state(&mut self, row: &Row, digests: &[u64], written: &mut HashMap<(BlockId, usize), SeqId>) {
        let n_pieces = self.layout.state.n_pieces;
        assert_eq!(row.state.blocks.len(), n_pieces, "{:?} has a state", row.seq);
        let state_at = |n_tokens: usize, piece: usize| digests[n_tokens - 1] ^ (piece as u64 + 1);
        for (piece, block) in row.state.blocks.iter().enumerate().filter(|_| row.start > 0) {
            let found = self.slots[block.idx()][0];
            assert_eq!(found, state_at(row.start, piece), "{:?} goes on with its own state", row.seq);
        }
        let mut before = 0;
        let end = std::iter::once((row.len(), &row.state.blocks));
        for (n_tokens, blocks) in row.state.saves.iter().map(|save| (save.n_tokens, &save.blocks)).chain(end)
        {
            assert!(n_tokens > before && n_tokens <= row.len() || n_tokens == row.len(), "saves ascend");
            before = n_tokens;
            assert_eq!(blocks.len(), n_pieces);
            for (piece, block) in blocks.iter().enumerate() {
                self.slots[block.idx()][0] = state_at(row.start + n_tokens, piece);
                let other = written.insert((*block, 0), row.seq);
                assert_eq!(other, None, "no state is written twice in a step");
            }
        }
    }

    pub(super) fn export(&self, block: BlockId) -> Vec<u64> {
        self.slots[block.idx()].clone()
    }

    pub(super) fn import(&mut self, block: BlockId, slots: &[u64]) {
        self.slots[block.idx()] = slots.to_vec();
    }
}

/// Scheduler, runner and store together, with a model that is a function of the tokens.
pub(super) struct Sim {
    pub(super) scheduler: Scheduler,
    pub(super) runner: FakeRunner,
    pub(super) tokens: HashMap<SeqId, Vec<TokenId>>,
    /// Sequences that may generate nothing.
    mute: HashSet<SeqId>,
    pub(super) stored: BTreeMap<BlockKey, Vec<u64>>,
    pub(super) unsaved: Vec<(BlockId, BlockKey)>,
    pub(super) restores: Vec<Restore>,
    pub(super) n_vocab: u32,
    pub(super) store: StoreMode,
}

impl Sim {
    pub(super) fn new(scheduler: Scheduler, layout: &KvLayout, n_blocks: usize, store: StoreMode) -> Sim {
        Sim {
            scheduler,
            runner: FakeRunner::new(layout, n_blocks),
            tokens: HashMap::new(),
            mute: HashSet::new(),
            stored: BTreeMap::new(),
            unsaved: Vec::new(),
            restores: Vec::new(),
            n_vocab: 2,
            store,
        }
    }

    /// The scheduler has taken a prompt that may go on for so many tokens.
    pub(super) fn submitted(&mut self, id: SeqId, prompt: Vec<TokenId>, max_new_tokens: usize) {
        self.tokens.insert(id, prompt);
        if max_new_tokens == 0 {
            self.mute.insert(id);
        }
    }

    /// The next token after `tokens`: deterministic, so that a repeated prompt gets a repeated answer.
    pub(super) fn next_token(&self, tokens: &[TokenId]) -> TokenId {
        let digest = prefix_digests(tokens).pop().unwrap_or(0);
        (digest >> 17) as u32 % self.n_vocab
    }

    /// Execute a plan's step and sample; the caller commits.
    pub(super) fn run(&mut self, step: &Step) -> Vec<(SeqId, TokenId)> {
        let tokens = &self.tokens;
        self.runner.run(step, &|id| tokens[&id].clone());
        let mut sampled = Vec::new();
        for row in &step.rows {
            let reaches_end = row.end() == self.tokens[&row.seq].len();
            let is_mute = self.mute.contains(&row.seq);
            let is_asked = row.wanted != Wanted::Nothing;
            assert!(!reaches_end || is_mute || is_asked, "the last token's logits are asked for");
            assert!(reaches_end && !is_mute || row.wanted != Wanted::LastLogits, "nobody would read these");
            if reaches_end && !is_mute {
                sampled.push((row.seq, self.next_token(&self.tokens[&row.seq])));
            }
        }
        sampled
    }

    /// Commit and take over what was completed.
    pub(super) fn commit(&mut self, step: &Step, sampled: &[(SeqId, TokenId)]) -> Vec<SeqId> {
        let at_limit = self.scheduler.commit(step, sampled).at_limit;
        for (id, token) in sampled {
            if let Some(tokens) = self.tokens.get_mut(id) {
                tokens.push(*token);
            }
        }
        self.export_completed();
        at_limit
    }

    /// Copy out what was completed, as the engine does between steps.
    pub(super) fn export_completed(&mut self) {
        for completed in self.scheduler.take_completed() {
            self.unsaved.push((completed.block, completed.key));
        }
    }

    /// Save one completed block.
    pub(super) fn save_one(&mut self) -> bool {
        if self.unsaved.is_empty() {
            return false;
        }
        let (block, key) = self.unsaved.remove(0);
        let is_held = self.scheduler.cache.pool.lookup(&key);
        let is_held = is_held.is_some_and(|held| self.scheduler.cache.pool.pieces(held).contains(&block));
        assert!(is_held, "what is not saved yet stays");
        self.stored.insert(key, self.runner.export(block));
        self.scheduler.mark_saved(&key);
        true
    }

    /// Import one restore; blocks of which `is_good` is false count as corrupt.
    pub(super) fn finish_restore(&mut self, idx: usize, is_good: &mut dyn FnMut(&RestoreBlock) -> bool) {
        let restore = self.restores.swap_remove(idx);
        if self.scheduler.state(restore.seq) != Some(crate::SeqState::Restoring) {
            return;
        }
        let mut imported = Vec::new();
        for wanted in &restore.blocks {
            let Some(bytes) = self.stored.get(&wanted.key).filter(|_| is_good(wanted)) else { continue };
            self.runner.import(wanted.block, bytes);
            imported.push(wanted.key);
        }
        self.scheduler.finish_restore(restore.seq, &imported);
    }

    pub(super) fn finish(&mut self, id: SeqId) -> bool {
        self.tokens.remove(&id);
        self.scheduler.finish(id)
    }
}
