//! One forward pass, described: which tokens of which sequences, and where their KV lies.
//!
//! A step is a list of rows and a row is a piece of one sequence.
//! A decode is a row of one token, a prefill chunk a row of many; nothing else tells them apart.

use std::ops::Range;

use crate::ids::{BlockId, SeqId, TokenId};

/// One forward pass over the pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Whole-block copies, done in order before any row runs: copy-on-write of shared tails, and of states.
    pub copies: Vec<BlockCopy>,
    /// The pieces of sequences to compute; no sequence occurs twice.
    pub rows: Vec<Row>,
}

/// Copy the bytes of one block over another of the same layer group, or of the same piece of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCopy {
    /// Where the bytes come from.
    pub from: BlockId,
    /// Where they go.
    pub to: BlockId,
}

/// A piece of one sequence: `input` at the positions from `start` on.
///
/// The KV of positions `0..start` (as far as each layer looks back) is in the blocks already;
/// the step writes the KV of its own tokens there before any of its queries read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Whose piece this is.
    pub seq: SeqId,
    /// What stands there; never empty.
    pub input: RowInput,
    /// Absolute position of the first of it.
    pub start: usize,
    /// One table for each layer group of the [`crate::KvLayout`], in its order.
    pub tables: Vec<BlockTable>,
    /// The sequence's state, where the model has one.
    pub state: RowState,
    /// What the caller will read.
    pub wanted: Wanted,
}

impl Row {
    /// Positions that it computes.
    pub fn len(&self) -> usize {
        match &self.input {
            RowInput::Tokens(tokens) => tokens.len(),
        }
    }

    /// Whether it computes none, which no step may ask for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position behind its last.
    pub fn end(&self) -> usize {
        self.start + self.len()
    }

    /// Its tokens.
    pub fn tokens(&self) -> &[TokenId] {
        match &self.input {
            RowInput::Tokens(tokens) => tokens,
        }
    }
}

/// The state of a row's sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowState {
    /// Its blocks, one for each piece of the [`crate::StateLayout`]. They hold the state that the tokens before the row
    /// leave, or anything where there are none; after the step they hold the one that the row leaves.
    pub blocks: Vec<BlockId>,
    /// Where within the row the state is written elsewhere too, ascending.
    pub saves: Vec<StateSave>,
}

/// A place within a row whose state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSave {
    /// After how many of the row's tokens: one at least, and at most all.
    pub n_tokens: usize,
    /// The blocks that the state goes to, one for each piece.
    pub blocks: Vec<BlockId>,
}

/// What stands at a row's positions. Another kind of input is a variant here, and what it is embedded by is in
/// the runner; whoever looks a position's content up by its hash needs one of it too.
#[derive(Debug, Clone, PartialEq)]
pub enum RowInput {
    /// Tokens of the model's vocabulary.
    Tokens(Vec<TokenId>),
}

/// What of a row is computed for the caller to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing but its KV: a prefill chunk that is not the last.
    Nothing,
    /// The logits of the last position: what sampling needs.
    LastLogits,
    /// The logits of every position: evaluation and prompt log-probabilities.
    AllLogits,
    /// The hidden vector of the last position, normed as the output head takes it: an embedding.
    LastHidden,
}

impl Wanted {
    /// The positions of a row of `n` that have logits in the output.
    pub fn logits_of(self, n: usize) -> Range<usize> {
        match self {
            Wanted::Nothing | Wanted::LastHidden => n..n,
            Wanted::LastLogits => n - 1..n,
            Wanted::AllLogits => 0..n,
        }
    }
}

/// A sequence's blocks in one layer group.
///
/// Token position `p` lies in `blocks[p / block_tokens - first_block]`, slot `p % block_tokens`.
/// For a window group, blocks that every later query has left behind are gone and `first_block` is above 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockTable {
    /// Index, in blocks from the sequence's start, of `blocks[0]`.
    pub first_block: usize,
    /// The blocks, in token order.
    pub blocks: Vec<BlockId>,
}

/// What a step produced. Reused from step to step, so that a step does not allocate.
#[derive(Debug, Clone, Default)]
pub struct StepOutput {
    /// The logits that rows wanted.
    pub logits: Logits,
    /// The hidden vectors that rows wanted.
    pub hidden: Hidden,
}

/// Hidden vectors, `[n_rows, width]`, in the order of the step's rows.
#[derive(Debug, Clone, Default)]
pub struct Hidden {
    /// Values of a vector.
    pub width: usize,
    /// The values, row after row.
    pub values: Vec<f32>,
    /// For each vector, the index of the step's row.
    pub origin: Vec<usize>,
}

/// Logits, `[n_logit_rows, n_vocab]`, in the order of the step's rows and their positions.
#[derive(Debug, Clone, Default)]
pub struct Logits {
    /// Width of a row.
    pub n_vocab: usize,
    /// The values, row after row.
    pub values: Vec<f32>,
    /// For each logit row: the index of the step's row and of the position within it.
    pub origin: Vec<(usize, usize)>,
}

impl Logits {
    /// The values of logit row `i`.
    ///
    /// # Panics
    /// When `i` is not below the number of logit rows.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.n_vocab..(i + 1) * self.n_vocab]
    }

    /// How many rows of logits there are.
    pub fn n_rows(&self) -> usize {
        self.origin.len()
    }
}
