//! Where things stand in a packed tile; the drawing is in the parent module.

use crate::ggml::GgmlType;

/// Output rows of a tile.
pub(crate) const TILE_ROWS: usize = 32;

/// Byte counts of a packed type.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Bytes before the sub-blocks of a group.
    pub(crate) head: usize,
    /// Bytes of a sub-block.
    pub(crate) sub: usize,
    /// Sub-blocks of a group: the columns that share a head.
    pub(crate) n_sub: usize,
    /// Columns of a sub-block.
    pub(crate) sub_k: usize,
}

impl Layout {
    pub(crate) const fn of(ty: GgmlType) -> Layout {
        // 32 f16, one byte per row, one bit per weight, one nibble per weight.
        const F16S: usize = 2 * TILE_ROWS;
        const BYTES: usize = TILE_ROWS;
        const BITS: usize = 4 * TILE_ROWS;
        const NIBBLES: usize = 16 * TILE_ROWS;
        let (head, sub, n_sub, sub_k) = match ty {
            GgmlType::F32 => (0, 4 * TILE_ROWS, 1, 1),
            GgmlType::F16 | GgmlType::BF16 => (0, 2 * TILE_ROWS, 1, 1),
            GgmlType::Q4_0 => (0, F16S + NIBBLES, 1, 32),
            GgmlType::Q4_1 => (0, 2 * F16S + NIBBLES, 1, 32),
            GgmlType::Q5_0 => (0, F16S + BITS + NIBBLES, 1, 32),
            GgmlType::Q5_1 => (0, 2 * F16S + BITS + NIBBLES, 1, 32),
            GgmlType::Q8_0 => (0, F16S + 2 * NIBBLES, 1, 32),
            GgmlType::Q4K => (2 * F16S, 2 * BYTES + NIBBLES, 8, 32),
            GgmlType::Q5K => (2 * F16S, 2 * BYTES + BITS + NIBBLES, 8, 32),
            GgmlType::Q6K => (F16S, 2 * BYTES + 2 * BITS + NIBBLES, 8, 32),
        };
        Layout { head, sub, n_sub, sub_k }
    }

    /// Bytes of a group: a head and its sub-blocks.
    pub(crate) const fn group_bytes(self) -> usize {
        self.head + self.n_sub * self.sub
    }

    /// Bytes of a tile of `n_in` columns, which are whole groups.
    pub(crate) const fn tile_bytes(self, n_in: usize) -> usize {
        n_in / (self.n_sub * self.sub_k) * self.group_bytes()
    }
}
