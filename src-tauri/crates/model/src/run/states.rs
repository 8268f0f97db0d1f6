//! The states of a step's rows: what contradicts the layout is refused, and chunks get what lies within them.

use std::collections::HashSet;

use kernels::state::{StateRow, StateSave};
use scheduler::{BlockId, Row, RunError, StateLayout};

/// The state of `n_tokens` of a row's tokens from its token `first` on.
pub(super) fn state_of(row: &Row, first: usize, n_tokens: usize) -> StateRow<'_> {
    // A save at the border of two chunks lies at the end of the first one.
    let within = |save: &&scheduler::StateSave| (first + 1..=first + n_tokens).contains(&save.n_tokens);
    let saves =
        row.state.saves.iter().filter(within).map(|save| StateSave {
            n_tokens: save.n_tokens - first,
            blocks: BlockId::numbers(&save.blocks),
        });
    let blocks = BlockId::numbers(&row.state.blocks);
    StateRow { blocks, start: row.start + first, n_tokens, saves: saves.collect() }
}

/// Hold that the states of `rows` are such as `layout` cuts, in blocks of a pool of `n_blocks`, and apart.
pub(super) fn check(rows: &[Row], layout: &StateLayout, n_blocks: usize) -> Result<(), RunError> {
    let invalid = |cause: String| Err(RunError::InvalidStep(cause));
    let mut used = HashSet::new();
    for row in rows {
        let seq = row.seq.0;
        let mut last = 0;
        for save in &row.state.saves {
            if !(last + 1..=row.len()).contains(&save.n_tokens) {
                let (at, len) = (save.n_tokens, row.len());
                return invalid(format!(
                    "sequence {seq} has a state to save after {at} of {len} tokens, behind one after {last}"
                ));
            }
            last = save.n_tokens;
        }
        let saved = row.state.saves.iter().map(|save| &save.blocks);
        for blocks in std::iter::once(&row.state.blocks).chain(saved) {
            if blocks.len() != layout.n_pieces {
                let (n, n_pieces) = (blocks.len(), layout.n_pieces);
                return invalid(format!(
                    "sequence {seq} has a state of {n} blocks where {n_pieces} are needed"
                ));
            }
            for block in blocks {
                if block.idx() >= n_blocks {
                    return Err(RunError::NoSuchBlock { block: block.0, n_blocks });
                }
                if !used.insert(*block) {
                    return invalid(format!(
                        "block {} of a state of sequence {seq} is another state's",
                        block.0
                    ));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
