//! One sequence: its tokens, how far they are computed, and the blocks it holds.

use address::ChainHash;

use crate::chain_hasher::ChainHasher;
use crate::ids::{BlockId, SeqId, TokenId};
use crate::plan::{FormerBlock, NewSequence, Progress, PromptLogits, RestoreBlock, SeqState};
use crate::sequence_state::SequenceState;
use crate::step::{BlockTable, Wanted};

/// Which list of the scheduler a sequence is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting,
    Restoring,
    Running,
}

/// Whether the store gets a block that ends a sequence's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TailSaving {
    /// It is reported as completed.
    Wanted,
    /// It is only a leftover in the pool: its sequence goes on later.
    Unwanted,
}

/// A block that is being restored, and the prefix before it.
#[derive(Debug, Clone)]
pub(crate) struct Restoring {
    pub(crate) wanted: RestoreBlock,
    pub(crate) parent: ChainHash,
}

#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub(crate) id: SeqId,
    pub(crate) agent: Option<u64>,
    /// Place in the order of arrival; smaller came earlier.
    pub(crate) order: u64,
    pub(crate) phase: Phase,
    /// Prompt, then what was generated.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) n_prompt: usize,
    /// Tokens it may have at most.
    pub(crate) n_limit: usize,
    /// Tokens whose KV is in the blocks.
    pub(crate) n_computed: usize,
    /// The most that was ever.
    pub(crate) n_kept: usize,
    /// Leading tokens that it never computed itself; at most what it found at any admission.
    pub(crate) n_trusted: usize,
    /// Addresses of the whole blocks of `tokens`.
    pub(crate) hashes: Vec<ChainHash>,
    /// Leading blocks that have their address in the pool.
    pub(crate) n_registered: usize,
    /// One for each layer group.
    pub(crate) tables: Vec<BlockTable>,
    pub(crate) kept_windows: Vec<usize>,
    pub(crate) prompt_logits: PromptLogits,
    pub(crate) former: Option<FormerBlock>,
    /// Requests that were admitted past this one while it lacked room.
    pub(crate) n_passes: usize,
    pub(crate) was_preempted: bool,
    /// Whether the store may be asked: once for each time in the queue.
    pub(crate) may_restore: bool,
    /// Whether a restore has failed it because a piece of a state was lost.
    pub(crate) has_lost_state: bool,
    /// Blocks kept for its admission, in order of block index.
    pub(crate) holds: Vec<BlockId>,
    /// Blocks that bytes are being imported into.
    pub(crate) restoring: Vec<Restoring>,
    /// Blocks it will need beyond those, while it restores.
    pub(crate) n_promised: usize,
    /// Tokens that were resident before its restore.
    pub(crate) n_resident: Option<usize>,
    /// Where earlier answers end in its prompt.
    pub(crate) answer_ends: Vec<usize>,
    pub(crate) state: SequenceState,
}

impl Sequence {
    pub(crate) fn new(new: NewSequence, order: u64, n_limit: usize, n_groups: usize) -> Sequence {
        let tokens = new.prompt.into_tokens();
        let n_prompt = tokens.len();
        // The same prompt sent again is taken up before its last token.
        let mut kept_windows: Vec<usize> = new.kept_windows.into_iter().filter(|&c| c < n_prompt).collect();
        kept_windows.push(n_prompt - 1);
        kept_windows.sort_unstable();
        kept_windows.dedup();
        Sequence {
            id: new.id,
            agent: new.agent,
            order,
            phase: Phase::Waiting,
            tokens,
            n_prompt,
            n_limit,
            n_computed: 0,
            n_kept: 0,
            n_trusted: usize::MAX,
            hashes: Vec::new(),
            n_registered: 0,
            tables: vec![BlockTable::default(); n_groups],
            kept_windows,
            prompt_logits: new.prompt_logits,
            former: new.former,
            n_passes: 0,
            was_preempted: false,
            may_restore: true,
            has_lost_state: false,
            holds: Vec::new(),
            restoring: Vec::new(),
            n_promised: 0,
            n_resident: None,
            answer_ends: new.answer_ends,
            state: SequenceState::default(),
        }
    }

    /// Tokens to compute before the next one can be sampled.
    pub(crate) fn n_remaining(&self) -> usize {
        self.tokens.len() - self.n_computed
    }

    /// Whether it gets no further row.
    pub(crate) fn is_done(&self) -> bool {
        self.n_remaining() == 0 || (self.tokens.len() >= self.n_limit && self.n_limit > self.n_prompt)
    }

    /// Leading tokens that may be taken from the cache: at least one is always computed.
    pub(crate) fn n_reusable(&self) -> usize {
        match self.prompt_logits {
            PromptLogits::Last => self.tokens.len() - 1,
            PromptLogits::All => 0,
        }
    }

    /// What a row of `start..end` is asked for.
    pub(crate) fn wanted(&self, start: usize, end: usize) -> Wanted {
        match self.prompt_logits {
            PromptLogits::All if start < self.n_prompt => Wanted::AllLogits,
            // Nothing follows a prompt that is computed for its KV alone.
            _ if end == self.tokens.len() && self.n_limit > self.n_prompt => Wanted::LastLogits,
            _ => Wanted::Nothing,
        }
    }

    /// Bring the addresses up to date with the tokens.
    pub(crate) fn extend_hashes(&mut self, hasher: &ChainHasher, block_tokens: usize) {
        while (self.hashes.len() + 1) * block_tokens <= self.tokens.len() {
            let start = self.hashes.len() * block_tokens;
            let hash = hasher.child(
                &self.parent_of(start, block_tokens, hasher),
                &self.tokens[start..start + block_tokens],
            );
            self.hashes.push(hash);
        }
    }

    /// The address of the whole blocks before `position`, which starts a block.
    pub(crate) fn parent_of(&self, position: usize, block_tokens: usize, hasher: &ChainHasher) -> ChainHash {
        match position / block_tokens {
            0 => hasher.root(),
            n => self.hashes[n - 1],
        }
    }

    /// Every block it holds, in whatever role.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockId> {
        let tables = self.tables.iter().flat_map(|table| table.blocks.iter().copied());
        // Of a state the first block stands for all.
        let restoring = self.restoring.iter().filter(|restoring| !restoring.wanted.key.group.is_state());
        let restoring = restoring.map(|restoring| restoring.wanted.block);
        tables.chain(self.holds.iter().copied()).chain(restoring).chain(self.state.blocks())
    }

    pub(crate) fn progress(&self) -> Progress<'_> {
        let Sequence { ref tokens, n_prompt, n_computed, n_kept, .. } = *self;
        Progress { tokens, n_prompt, n_computed, n_kept }
    }

    pub(crate) fn state(&self) -> SeqState {
        let n_generated = self.tokens.len() - self.n_prompt;
        match self.phase {
            Phase::Waiting => SeqState::Waiting,
            Phase::Restoring => SeqState::Restoring,
            Phase::Running if self.is_done() => SeqState::AtLimit,
            Phase::Running if n_generated > 0 && self.n_remaining() == 1 => {
                SeqState::Decoding { n_generated }
            }
            Phase::Running => SeqState::Prefilling { n_done: self.n_computed, n_total: self.tokens.len() },
        }
    }
}

/// The block of a table that holds `block_idx`, counted from the sequence's start.
pub(crate) fn block_at(table: &BlockTable, block_idx: usize) -> Option<BlockId> {
    table.blocks.get(block_idx.checked_sub(table.first_block)?).copied()
}
