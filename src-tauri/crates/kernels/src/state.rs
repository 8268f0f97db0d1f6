//! What recurrent layers have of a sequence, in paged memory: a state of one size, however many tokens there were.
//!
//! ```text
//! a sequence's state   block 0 ────────────┬ block 1 ────────────┬ …       one block of the pool for each piece
//!                      │ head 0 │ head 1 │ │ head 2 │ column 0 │ │
//! ```
//!
//! A layer's **heads** each have values that no other head changes; the **columns** are the last inputs of its
//! convolution. Each is a unit, which lies in one block at an offset. What the values of a head are, and in which order,
//! is the business of what computes them. Copying a block's bytes copies all there is.
#![allow(unsafe_code)]

use crate::kv::KvArena;

/// Where a unit of a state lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateUnit {
    /// Index into the list of a state's blocks.
    pub piece: usize,
    /// Byte offset in that block, a multiple of 64.
    pub offset: usize,
}

/// Where and how large one layer's state is; its units are apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLayer {
    heads: Vec<StateUnit>,
    columns: Vec<StateUnit>,
    head_values: usize,
    column_values: usize,
    block_bytes: usize,
    /// The pieces that any unit lies in, ascending.
    pieces: Vec<usize>,
}

/// A piece of one sequence in an operation: `n_tokens` tokens, the first at the absolute position `start`.
///
/// The vectors of several rows are packed one row after the other.
#[derive(Debug, Clone)]
pub struct StateRow<'a> {
    /// The blocks of its state, one for each piece. They hold what the tokens before the row have left, and anything at
    /// all where there are none; after the operation they hold what the row has left.
    pub blocks: &'a [u32],
    /// Absolute position of the first token.
    pub start: usize,
    /// Tokens in the piece.
    pub n_tokens: usize,
    /// Where within the row the state is written elsewhere too, ascending.
    pub saves: Vec<StateSave<'a>>,
}

/// A place within a row whose state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSave<'a> {
    /// After how many of the row's tokens: one at least, and at most all.
    pub n_tokens: usize,
    /// The blocks that the state goes to, one for each piece.
    pub blocks: &'a [u32],
}

impl StateRow<'_> {
    /// Whether no token was before it: its state begins as zeros.
    pub(crate) fn begins(&self) -> bool {
        self.start == 0
    }
}

impl StateLayer {
    /// A layer with these units in blocks of `block_bytes`: heads of `head_values` f32 values each, and the columns of a
    /// convolution, the oldest first, of `column_values`.
    ///
    /// # Panics
    /// When a unit is not aligned, does not fit a block or overlaps another.
    pub fn new(
        heads: Vec<StateUnit>,
        columns: Vec<StateUnit>,
        (head_values, column_values): (usize, usize),
        block_bytes: usize,
    ) -> StateLayer {
        let sized = |units: &[StateUnit], n_values: usize| -> Vec<(usize, usize, usize)> {
            let n_bytes = n_values.checked_mul(size_of::<f32>()).expect("a unit that fits memory");
            units.iter().map(|unit| (unit.piece, unit.offset, n_bytes)).collect()
        };
        let mut all = [sized(&heads, head_values), sized(&columns, column_values)].concat();
        all.sort_unstable();
        for &(piece, offset, n_bytes) in &all {
            let fits = offset.checked_add(n_bytes).is_some_and(|end| end <= block_bytes);
            assert!(
                offset % 64 == 0 && fits,
                "{n_bytes} bytes at {offset} of piece {piece} in a block of {block_bytes}"
            );
        }
        for pair in all.windows(2) {
            let ((piece, offset, n_bytes), next) = (pair[0], pair[1]);
            assert!(
                piece != next.0 || offset + n_bytes <= next.1,
                "{n_bytes} bytes at {offset} of piece {piece} overlap those at {}",
                next.1
            );
        }
        let mut pieces: Vec<usize> = all.into_iter().map(|(piece, ..)| piece).collect();
        pieces.dedup();
        StateLayer { heads, columns, head_values, column_values, block_bytes, pieces }
    }

    /// Heads.
    pub fn n_heads(&self) -> usize {
        self.heads.len()
    }

    /// Values of a head.
    pub fn head_values(&self) -> usize {
        self.head_values
    }

    /// The last inputs of the convolution that are kept.
    pub fn n_columns(&self) -> usize {
        self.columns.len()
    }

    /// Values of such an input.
    pub fn column_values(&self) -> usize {
        self.column_values
    }

    /// Holds what the safety of the kernels rests on, and returns the tokens of all `rows`: the layer fits the arena, the
    /// blocks of the rows and of their saves exist, and no two of these units are the same memory.
    pub(crate) fn check(&self, arena: &KvArena, rows: &[StateRow<'_>]) -> usize {
        assert_eq!(self.block_bytes, arena.block_bytes(), "block bytes of layer and arena");
        let n_pieces = self.pieces.last().map_or(0, |last| last + 1);
        let mut used: Vec<u32> = Vec::new();
        let mut use_blocks = |blocks: &[u32]| {
            assert!(blocks.len() >= n_pieces, "{} blocks of a state of {n_pieces}", blocks.len());
            used.extend(self.pieces.iter().map(|&piece| blocks[piece]));
        };
        for row in rows {
            use_blocks(row.blocks);
            let mut last = 0;
            for save in &row.saves {
                assert!(
                    (last + 1..=row.n_tokens).contains(&save.n_tokens),
                    "a save after {} of {} tokens, behind one after {last}",
                    save.n_tokens,
                    row.n_tokens
                );
                last = save.n_tokens;
                use_blocks(save.blocks);
            }
        }
        used.sort_unstable();
        if let Some(bad) = used.last().filter(|&&block| block as usize >= arena.n_blocks()) {
            panic!("block {bad} of {}", arena.n_blocks());
        }
        if let Some(twice) = used.windows(2).find(|pair| pair[0] == pair[1]) {
            panic!("block {} holds two states", twice[0]);
        }
        rows.iter().map(|row| row.n_tokens).sum()
    }

    /// The values of head `head` of the state in `blocks`.
    ///
    /// # Safety
    /// `blocks` has been checked with the layer and `arena`, which is borrowed exclusively by the operation, and no other
    /// thread uses this head of them.
    pub(crate) unsafe fn head(&self, arena: &KvArena, blocks: &[u32], head: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { unit(arena, blocks, self.heads[head]) }
    }

    /// The values of column `column`, of which 0 is the oldest.
    ///
    /// # Safety
    /// As [`StateLayer::head`], of the values of the column that are used.
    pub(crate) unsafe fn column(&self, arena: &KvArena, blocks: &[u32], column: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { unit(arena, blocks, self.columns[column]) }
    }
}

/// The start of a unit.
///
/// # Safety
/// The unit lies inside a block.
unsafe fn unit(arena: &KvArena, blocks: &[u32], unit: StateUnit) -> *mut f32 {
    let block = arena.block_ptr(blocks[unit.piece] as usize);
    // SAFETY: inside the block by the caller's promise; blocks start on cache lines, and so do units.
    unsafe { block.add(unit.offset).cast() }
}

#[cfg(test)]
mod tests;
