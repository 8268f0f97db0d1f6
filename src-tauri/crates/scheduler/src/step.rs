//! One forward pass, described: which tokens of which sequences, and where their KV lies.
//!
//! A step is a list of rows and a row is a piece of one sequence.
//! A decode is a row of one token, a prefill chunk a row of many; nothing else tells them apart.

use crate::ids::{BlockId, SeqId, TokenId};

/// One forward pass over the pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Whole-block copies, done in order before any row runs (copy-on-write of shared tails).
    pub copies: Vec<BlockCopy>,
    /// The pieces of sequences to compute; no sequence occurs twice.
    pub rows: Vec<Row>,
}

/// Copy the bytes of one block over another of the same layer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCopy {
    /// Where the bytes come from.
    pub from: BlockId,
    /// Where they go.
    pub to: BlockId,
}

/// A piece of one sequence: `tokens` at positions `start..start + tokens.len()`.
///
/// The KV of positions `0..start` (as far as each layer looks back) is in the blocks already;
/// the step writes the KV of its own tokens there before any of its queries read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Whose piece this is.
    pub seq: SeqId,
    /// The tokens to compute; never empty.
    pub tokens: Vec<TokenId>,
    /// Absolute position of the first of them.
    pub start: usize,
    /// One table for each layer group of the [`crate::KvLayout`], in its order.
    pub tables: Vec<BlockTable>,
    /// Which positions' logits the caller will read.
    pub logits: LogitsWanted,
}

/// Which logits of a row are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsWanted {
    /// None: a prefill chunk that is not the last.
    None,
    /// Those of the last token: what sampling needs.
    Last,
    /// Those of every token: evaluation and prompt log-probabilities.
    All,
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

/// The logits a step produced, `[n_logit_rows, n_vocab]`, in the order of the step's rows and their tokens.
///
/// Reused from step to step, so that a step does not allocate.
#[derive(Debug, Clone, Default)]
pub struct Logits {
    /// Width of a row.
    pub n_vocab: usize,
    /// The values, row after row.
    pub values: Vec<f32>,
    /// For each logit row: the index of the step's row and of the token within it.
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
