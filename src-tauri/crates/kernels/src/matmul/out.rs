//! Where the results of a tile go, and how.
#![allow(unsafe_code)]

use crate::weights::TILE_ROWS;

/// The most rows that a kernel takes at once: their results fill half of a first-level cache.
pub(crate) const MAX_ROWS: usize = 128;

/// What happens to a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Epilogue {
    /// It replaces what is in `out`.
    Store,
    /// It is added to what is in `out`: a residual connection.
    Add,
}

/// Where a tile's outputs go: column c of row r is at `start + r row_stride + c`.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) start: *mut f32,
    pub(crate) row_stride: usize,
    /// Columns that exist; a last tile may have fewer than 32.
    pub(crate) n_cols: usize,
    /// What each result is multiplied with.
    pub(crate) scale: f32,
    pub(crate) epilogue: Epilogue,
}

impl Out {
    /// Writes the 32 results of a row, as far as their columns exist.
    ///
    /// # Safety
    /// The row's outputs exist, and no other worker uses them.
    #[inline(always)]
    pub(super) unsafe fn put(self, row: usize, results: &[f32; TILE_ROWS]) {
        for (col, result) in results.iter().enumerate().take(self.n_cols) {
            // SAFETY: the caller's promise.
            let out = unsafe { &mut *self.start.add(row * self.row_stride + col) };
            let result = result * self.scale;
            *out = if self.epilogue == Epilogue::Add { *out + result } else { result };
        }
    }
}
