//! A step, checked and cut into chunks for the decoder: all rows' tokens in one line. Nothing of it is copied.

use std::ops::Range;

use kernels::attention::AttentionRow;
use kernels::state::StateRow;
use scheduler::{AttentionSpan, BlockId, KvLayout, ModelCacheSpec, RunError, Step, Wanted};

use super::states::{self, state_of};

/// What the decoder computes.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) chunks: Vec<Chunk<'a>>,
    /// Places in the line of those tokens whose logits are wanted.
    pub(crate) logits_wanted: Vec<usize>,
    /// Places in the line of those tokens whose hidden vectors are wanted.
    pub(crate) hidden_wanted: Vec<usize>,
}

/// Some consecutive tokens of a batch.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    /// Their places in the line.
    pub(crate) tokens: Range<usize>,
    /// The tokens, in pieces of one row each.
    pub(crate) pieces: Vec<&'a [u32]>,
    /// Their absolute positions.
    pub(crate) positions: Vec<usize>,
    /// For each layer group, the pieces of sequences that the tokens are.
    pub(crate) rows: Vec<Vec<AttentionRow<'a>>>,
    /// These pieces with the states of their sequences; none where the model has none.
    pub(crate) states: Vec<StateRow<'a>>,
}

impl<'a> Batch<'a> {
    /// Cut `step` into chunks of at most `chunk_tokens`.
    pub(crate) fn new(step: &'a Step, layout: &KvLayout, chunk_tokens: usize) -> Batch<'a> {
        let n_groups = layout.groups.len();
        let mut batch = Batch { chunks: Vec::new(), logits_wanted: Vec::new(), hidden_wanted: Vec::new() };
        let mut first = 0;
        for row in &step.rows {
            let end = first + row.len();
            batch.logits_wanted.extend(row.wanted.logits_of(row.len()).map(|i| first + i));
            if row.wanted == Wanted::LastHidden {
                batch.hidden_wanted.push(end - 1);
            }
            let mut at = first;
            while at < end {
                if batch.chunks.last().is_none_or(|chunk| chunk.tokens.len() == chunk_tokens) {
                    let rows = vec![Vec::new(); n_groups];
                    batch.chunks.push(Chunk {
                        tokens: at..at,
                        pieces: Vec::new(),
                        positions: Vec::new(),
                        rows,
                        states: Vec::new(),
                    });
                }
                let chunk = batch.chunks.last_mut().expect("one was pushed if there was none");
                let n_tokens = (end - at).min(chunk_tokens - chunk.tokens.len());
                let start = row.start + (at - first);
                chunk.tokens.end += n_tokens;
                chunk.pieces.push(&row.tokens()[at - first..][..n_tokens]);
                chunk.positions.extend(start..start + n_tokens);
                for (group_idx, rows) in chunk.rows.iter_mut().enumerate() {
                    let table = &row.tables[group_idx];
                    let (blocks, first_block) = (BlockId::numbers(&table.blocks), table.first_block);
                    rows.push(AttentionRow { blocks, first_block, start, n_tokens });
                }
                if !layout.state.is_empty() {
                    chunk.states.push(state_of(row, at - first, n_tokens));
                }
                at += n_tokens;
            }
            first = end;
        }
        batch
    }
}

/// Hold that `step` makes sense for a model of `spec` with a pool of `n_blocks`, so that nothing below panics.
pub(crate) fn check(
    step: &Step,
    spec: &ModelCacheSpec,
    layout: &KvLayout,
    n_blocks: usize,
) -> Result<(), RunError> {
    let invalid = |cause: String| Err(RunError::InvalidStep(cause));
    for copy in &step.copies {
        for block in [copy.from, copy.to] {
            if block.idx() >= n_blocks {
                return Err(RunError::NoSuchBlock { block: block.0, n_blocks });
            }
        }
    }
    for (row_idx, row) in step.rows.iter().enumerate() {
        let seq = row.seq.0;
        if step.rows[..row_idx].iter().any(|other| other.seq == row.seq) {
            return invalid(format!("sequence {seq} occurs twice"));
        }
        if row.is_empty() {
            return invalid(format!("sequence {seq} has no tokens"));
        }
        if let Some(token) = row.tokens().iter().find(|&&token| token as usize >= spec.n_vocab) {
            return invalid(format!("sequence {seq} has token {token} of {}", spec.n_vocab));
        }
        let end = row.start.checked_add(row.len()).filter(|&end| end <= spec.max_context);
        let Some(end) = end else {
            let (start, n) = (row.start, row.len());
            return invalid(format!(
                "sequence {seq} has {n} tokens from {start}, context {}",
                spec.max_context
            ));
        };
        if row.tables.len() != layout.groups.len() {
            let (n, groups) = (row.tables.len(), layout.groups.len());
            return invalid(format!("sequence {seq} has {n} block tables for {groups} layer groups"));
        }
        for (group_idx, (table, group)) in row.tables.iter().zip(&layout.groups).enumerate() {
            let first_seen = match group.span {
                AttentionSpan::Full => 0,
                AttentionSpan::Window { tokens } => (row.start + 1).saturating_sub(tokens),
            };
            let (first, last) = (first_seen / layout.block_tokens, (end - 1) / layout.block_tokens);
            let held = table.first_block..table.first_block.saturating_add(table.blocks.len());
            if first < held.start || last >= held.end {
                return invalid(format!(
                    "sequence {seq} needs blocks {first}..={last} in group {group_idx}, its table holds {held:?}"
                ));
            }
            if let Some(block) = table.blocks.iter().find(|block| block.idx() >= n_blocks) {
                return Err(RunError::NoSuchBlock { block: block.0, n_blocks });
            }
        }
    }
    states::check(&step.rows, &layout.state, n_blocks)
}
