//! A runner that computes nothing and checks everything.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use scheduler::{
    AttentionSpan, BlockId, BlockTable, KvLayout, LentBlock, ModelCacheSpec, ModelRunner, Row, RunError,
    Step, StepOutput, TokenId,
};

use super::scripted_state;
use super::steering::{Outcome, Steering};
use super::tiny_text::END_OF_TURN;

/// Bytes of a token in the fake pool: its id with the layer group, and its position.
const ENTRY: usize = 8;

/// What the runner says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// A letter that depends on every token so far.
    Hash,
    /// This text, wherever the answer begins, and then the end of the turn.
    Says(String),
    /// These tokens, as above: for those that no text has.
    Writes(Vec<TokenId>),
    /// A part in a conversation: after the `n`th time that `opening` is read, the `n`th of `answers`, and then the end of
    /// the turn.
    Plays {
        /// What stands before each answer.
        opening: Vec<TokenId>,
        /// At least one; after the last one the first follows again.
        answers: Vec<Vec<TokenId>>,
    },
    /// Nothing that is a number.
    NotFinite,
}

impl Script {
    /// The greedy answer to `prompt`, worked out without a pool: `n_tokens` at most.
    pub fn answer(&self, prompt: &[TokenId], n_tokens: usize) -> Vec<TokenId> {
        let mut tokens = prompt.to_vec();
        while tokens.len() < prompt.len() + n_tokens && tokens.last() != Some(&END_OF_TURN) {
            tokens.push(self.next(&tokens));
        }
        tokens.split_off(prompt.len())
    }

    fn next(&self, tokens: &[TokenId]) -> TokenId {
        match self {
            Script::NotFinite => 0,
            Script::Hash => 97 + (hash(tokens) % 26) as TokenId,
            Script::Says(text) => go_on_with(&text.bytes().map(TokenId::from).collect::<Vec<_>>(), tokens),
            Script::Writes(answer) => go_on_with(answer, tokens),
            Script::Plays { opening, answers } => play(opening, answers, tokens),
        }
    }
}

/// What comes next of the answer that the last opening in `tokens` begins.
fn play(opening: &[TokenId], answers: &[Vec<TokenId>], tokens: &[TokenId]) -> TokenId {
    // Token by token over a long conversation: what cannot be an opening is passed over at once.
    let first = opening.first();
    let starts = tokens.iter().enumerate().filter(|(_, token)| Some(*token) == first);
    let openings = starts.filter(|(at, _)| tokens[*at..].starts_with(opening));
    let (n_openings, last) = openings.fold((0_usize, 0), |(n, _), (at, _)| (n + 1, at + opening.len()));
    let answer = answers.get(n_openings.max(1).saturating_sub(1) % answers.len().max(1));
    answer.and_then(|answer| answer.get(tokens.len() - last)).copied().unwrap_or(END_OF_TURN)
}

/// What comes next of an answer of which the last of `tokens` are the beginning.
fn go_on_with(answer: &[TokenId], tokens: &[TokenId]) -> TokenId {
    let n_said = (0..=answer.len()).rev().find(|&n| tokens.ends_with(&answer[..n])).unwrap_or(0);
    answer.get(n_said).copied().unwrap_or(END_OF_TURN)
}

/// Stores token ids and positions where a model stores keys and values.
pub struct ScriptedRunner {
    spec: ModelCacheSpec,
    layout: KvLayout,
    pool: Vec<u8>,
    lends: bool,
    /// Blocks that somebody else fills; whoever touches one meanwhile panics.
    lent: BTreeSet<BlockId>,
    /// What came back and is not in the pool yet.
    back: Back,
    script: Script,
    steering: Steering,
}

impl ScriptedRunner {
    /// A runner over a pool of `n_blocks` blocks of nothing.
    ///
    /// # Panics
    /// When a block has no room for its tokens' entries.
    pub fn new(
        spec: ModelCacheSpec,
        layout: KvLayout,
        n_blocks: usize,
        script: Script,
        steering: Steering,
    ) -> Self {
        assert!(layout.block_bytes >= layout.block_tokens * ENTRY, "a block of {} bytes", layout.block_bytes);
        let pool = vec![0xEE; n_blocks * layout.block_bytes];
        ScriptedRunner {
            spec,
            layout,
            pool,
            lends: true,
            lent: BTreeSet::new(),
            back: Back::default(),
            script,
            steering,
        }
    }

    /// Whether it lends blocks, or everything goes through its thread.
    pub fn lending(mut self, lends: bool) -> Self {
        self.lends = lends;
        self
    }

    fn block(&self, block: BlockId) -> Result<std::ops::Range<usize>, RunError> {
        if block.idx() >= self.n_blocks() {
            return Err(RunError::NoSuchBlock { block: block.0, n_blocks: self.n_blocks() });
        }
        assert!(!self.lent.contains(&block), "block {} is lent", block.0);
        let start = block.idx() * self.layout.block_bytes;
        Ok(start..start + self.layout.block_bytes)
    }

    /// Put what came back where it belongs.
    fn take_back(&mut self) {
        let back = std::mem::take(&mut *self.back.lock().unwrap_or_else(PoisonError::into_inner));
        for (block, bytes) in back {
            let start = block.idx() * self.layout.block_bytes;
            self.pool[start..start + bytes.len()].copy_from_slice(&bytes);
            self.lent.remove(&block);
        }
    }

    /// Where a position's entry lies.
    fn entry(&self, table: &BlockTable, position: usize) -> Result<std::ops::Range<usize>, RunError> {
        let block_idx = position / self.layout.block_tokens;
        let block = block_idx
            .checked_sub(table.first_block)
            .and_then(|idx| table.blocks.get(idx))
            .ok_or_else(|| RunError::InvalidStep(format!("position {position} has no block")))?;
        let start = self.block(*block)?.start + position % self.layout.block_tokens * ENTRY;
        Ok(start..start + ENTRY)
    }

    /// Go on with a row's state, and write it where it is to be kept. Returns what it is after each of the row's tokens;
    /// nothing where there are no states.
    fn go_on_with_state(&mut self, row: &Row) -> Result<Vec<Option<u64>>, RunError> {
        let n_pieces = self.layout.state.n_pieces;
        scripted_state::check(row, n_pieces)?;
        if n_pieces == 0 {
            return Ok(Vec::new());
        }
        let places: Vec<_> =
            row.state.blocks.iter().map(|block| self.block(*block)).collect::<Result<_, _>>()?;
        let before = scripted_state::read(places.into_iter().map(|place| &self.pool[place]));
        let digests = scripted_state::digests(row, before);
        let saves = row.state.saves.iter().map(|save| (save.n_tokens, &save.blocks));
        for (n_tokens, blocks) in saves.chain([(row.len(), &row.state.blocks)]) {
            for (piece, block) in blocks.iter().enumerate() {
                let place = self.block(*block)?;
                scripted_state::write(digests[n_tokens - 1], piece, &mut self.pool[place]);
            }
        }
        Ok(digests)
    }

    fn write(&mut self, row: &Row) -> Result<(), RunError> {
        if row.is_empty() || row.tables.len() != self.layout.groups.len() {
            return Err(RunError::InvalidStep(format!("{} tokens, {} tables", row.len(), row.tables.len())));
        }
        for (group_idx, table) in row.tables.iter().enumerate() {
            for (position, token) in (row.start..).zip(row.tokens()) {
                let range = self.entry(table, position)?;
                self.pool[range].copy_from_slice(&entry_bytes(*token, group_idx, position));
            }
        }
        Ok(())
    }

    /// The tokens up to `end` as the pool has them; `None` when any entry that a layer group looks at is wrong.
    fn read(&self, row: &Row, end: usize) -> Result<Option<Vec<TokenId>>, RunError> {
        let mut tokens = vec![None; end];
        for (group_idx, (table, group)) in row.tables.iter().zip(&self.layout.groups).enumerate() {
            let first = match group.span {
                AttentionSpan::Full => 0,
                AttentionSpan::Window { tokens } => end.saturating_sub(tokens),
            };
            for (position, token) in tokens.iter_mut().enumerate().skip(first) {
                let range = self.entry(table, position)?;
                let bytes = &self.pool[range];
                let found = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
                let is_right = bytes == entry_bytes(found, group_idx, position).as_slice();
                if !is_right || token.is_some_and(|other| other != found) {
                    return Ok(None);
                }
                *token = Some(found);
            }
        }
        Ok(tokens.into_iter().collect())
    }
}

impl ModelRunner for ScriptedRunner {
    fn cache_spec(&self) -> &ModelCacheSpec {
        &self.spec
    }

    fn layout(&self) -> &KvLayout {
        &self.layout
    }

    fn n_blocks(&self) -> usize {
        self.pool.len() / self.layout.block_bytes
    }

    fn run(&mut self, step: &Step, out: &mut StepOutput) -> Result<(), RunError> {
        self.take_back();
        let outcome = self.steering.at_step(step);
        match outcome {
            Outcome::Run | Outcome::NotFinite(_) => {}
            Outcome::Error => return Err(RunError::Device("the script says so".to_owned())),
            Outcome::OutOfMemory => return Err(RunError::OutOfMemory("the script says so".to_owned())),
            Outcome::Panic => panic!("the script says so"),
        }
        for copy in &step.copies {
            let (from, to) = (self.block(copy.from)?, self.block(copy.to)?);
            self.pool.copy_within(from, to.start);
        }
        // Everything is written before anything is read, so that a row that writes where it must not is found.
        let mut states = Vec::with_capacity(step.rows.len());
        for row in &step.rows {
            self.write(row)?;
            states.push(self.go_on_with_state(row)?);
        }
        *out = StepOutput::default();
        let out = &mut out.logits;
        let n_vocab = self.spec.n_vocab;
        out.n_vocab = n_vocab;
        for ((row_idx, row), state) in step.rows.iter().enumerate().zip(&states) {
            for token_idx in row.wanted.logits_of(row.len()) {
                let tokens = self.read(row, row.start + token_idx + 1)?;
                let is_right = |tokens: &Vec<TokenId>| match state.get(token_idx) {
                    Some(digest) => *digest == Some(scripted_state::digest_of(tokens)),
                    None => true,
                };
                let tokens = tokens.filter(is_right);
                out.origin.push((row_idx, token_idx));
                match outcome {
                    Outcome::NotFinite(bad) if bad == row_idx => {
                        out.values.extend(std::iter::repeat_n(f32::NAN, n_vocab));
                    }
                    _ => out.values.extend(logits(&self.script, tokens.as_deref(), n_vocab)),
                }
            }
        }
        Ok(())
    }

    fn lend_block(&mut self, block: BlockId) -> Option<LentBlock> {
        self.take_back();
        let range = self.block(block).ok().filter(|_| self.lends)?;
        let bytes = self.pool[range].to_vec();
        self.lent.insert(block);
        Some(Box::new(Loan { block, bytes, back: Arc::clone(&self.back) }))
    }

    fn export_block(&mut self, block: BlockId, out: &mut [u8]) -> Result<(), RunError> {
        self.take_back();
        let range = self.block(block)?;
        if out.len() != range.len() {
            return Err(RunError::BlockSize { got: out.len(), want: range.len() });
        }
        out.copy_from_slice(&self.pool[range]);
        Ok(())
    }

    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), RunError> {
        self.take_back();
        let range = self.block(block)?;
        if bytes.len() != range.len() {
            return Err(RunError::BlockSize { got: bytes.len(), want: range.len() });
        }
        self.pool[range].copy_from_slice(bytes);
        Ok(())
    }
}

/// Blocks that were lent, with what they were filled with; the lock guards just that.
type Back = Arc<Mutex<Vec<(BlockId, Vec<u8>)>>>;

/// A block on loan.
struct Loan {
    block: BlockId,
    bytes: Vec<u8>,
    back: Back,
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.back.lock().unwrap_or_else(PoisonError::into_inner).push((self.block, bytes));
    }
}

impl Drop for ScriptedRunner {
    fn drop(&mut self) {
        self.steering.dropped();
    }
}

fn entry_bytes(token: TokenId, group_idx: usize, position: usize) -> [u8; ENTRY] {
    let [a, b, c, _] = token.to_le_bytes();
    let [d, e, f, g] = (position as u32).to_le_bytes();
    [a, b, c, group_idx as u8, d, e, f, g]
}

/// The script's token is the likeliest; other letters follow, by a hash. A pool that is wrong says `#`.
fn logits(script: &Script, tokens: Option<&[TokenId]>, n_vocab: usize) -> Vec<f32> {
    if *script == Script::NotFinite {
        return vec![f32::NAN; n_vocab];
    }
    let mut values = vec![-20.0; n_vocab];
    let Some(tokens) = tokens else {
        values[usize::from(b'#')] = 6.0;
        return values;
    };
    let mut state = hash(tokens);
    for value in &mut values[97..123] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *value = (state >> 40) as f32 / (1u64 << 24) as f32 * 3.0;
    }
    values[script.next(tokens) as usize] = 4.0;
    values
}

/// FNV-1a.
fn hash(tokens: &[TokenId]) -> u64 {
    tokens.iter().fold(0xCBF2_9CE4_8422_2325, |h, &t| (h ^ u64::from(t)).wrapping_mul(0x100_0000_01B3)) >> 7
}
