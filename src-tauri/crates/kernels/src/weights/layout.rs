//! Where things stand in a packed tile, and what they mean; the drawing is in the parent module.

use crate::ggml::{FP4_BOOK, GgmlType, IQ4_BOOK};

/// Output rows of a tile.
pub(crate) const TILE_ROWS: usize = 32;

/// Where the scales of a sub-block stand, one for each row of a tile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scales {
    /// Sub: d f16.
    F16,
    /// Sub: d f16, m f16.
    F16Min,
    /// Head: d f16, dmin f16; sub: sc u8, mn u8.
    U8Min,
    /// Head: d f16; sub: sc i8.
    I8,
    /// Head: d f16; sub: sc i8 for columns 0..16, then for 16..32.
    I8Halves,
    /// Head: d f16, dmin f16; sub: sc and mn, the low and the high nibble of a byte, for columns 0..16, then for 16..32.
    U4MinHalves,
    /// Head: d f16.
    Head,
    /// Sub: an exponent u8.
    E8M0,
    /// Sub: u8 with four bits of exponent and three of mantissa, for columns 0..16, then for 16..32.
    E4M3Halves,
    /// In the file's own blocks, which [`super::Expanded`] decodes.
    Blocks,
}

/// How the numbers of a quantised type are packed. A weight is `scale (q - bias) + min`.
#[derive(Clone, Copy)]
pub(crate) struct Coding {
    pub(crate) scales: Scales,
    /// Whether the first and the second 16 columns of a sub-block have scales of their own.
    pub(crate) split: bool,
    /// Bits of an integer that stand next to each other in the last lines: 2, 4 or 8.
    pub(crate) low_bits: u32,
    /// Bits that come on top, from lines of their own: 0, 1 or 2.
    pub(crate) high_bits: u32,
    /// What the integers are indices of, if anything.
    pub(crate) book: Option<&'static [i8; 16]>,
    /// What is subtracted from the integers. With 128 they are signed bytes whose sign bit is flipped.
    pub(crate) bias: i32,
}

impl Coding {
    /// That of a quantised type.
    pub(crate) const fn of(ty: GgmlType) -> Coding {
        use Scales::{Blocks, E4M3Halves, E8M0, F16, F16Min, Head, I8, I8Halves, U4MinHalves, U8Min};
        match ty {
            GgmlType::Q4_0 => Coding::ints(F16, 4, 0, 8),
            GgmlType::Q4_1 => Coding::ints(F16Min, 4, 0, 0),
            GgmlType::Q5_0 => Coding::ints(F16, 4, 1, 16),
            GgmlType::Q5_1 => Coding::ints(F16Min, 4, 1, 0),
            GgmlType::Q8_0 => Coding::bytes(F16),
            GgmlType::Q2K => Coding::ints(U4MinHalves, 2, 0, 0),
            GgmlType::Q3K => Coding::ints(I8Halves, 2, 1, 4),
            GgmlType::Q4K => Coding::ints(U8Min, 4, 0, 0),
            GgmlType::Q5K => Coding::ints(U8Min, 4, 1, 0),
            GgmlType::Q6K => Coding::ints(I8Halves, 4, 2, 32),
            GgmlType::TQ2_0 => Coding::ints(Head, 2, 0, 1),
            GgmlType::IQ4NL => Coding::book(F16, &IQ4_BOOK, 128),
            GgmlType::IQ4XS => Coding::book(I8, &IQ4_BOOK, 128),
            GgmlType::MXFP4 => Coding::book(E8M0, &FP4_BOOK, 16),
            GgmlType::NVFP4 => Coding::book(E4M3Halves, &FP4_BOOK, 16),
            GgmlType::IQ3XXS | GgmlType::IQ3S | GgmlType::IQ2XXS | GgmlType::IQ1S | GgmlType::TQ1_0 => {
                Coding::bytes(Blocks)
            }
            GgmlType::IQ2XS | GgmlType::IQ2S | GgmlType::IQ1M => {
                Coding { split: true, ..Coding::bytes(Blocks) }
            }
            GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => panic!("float types have no coding"),
        }
    }

    const fn ints(scales: Scales, low_bits: u32, high_bits: u32, bias: i32) -> Coding {
        let split = matches!(scales, Scales::I8Halves | Scales::U4MinHalves);
        Coding { scales, split, low_bits, high_bits, book: None, bias }
    }

    const fn book(scales: Scales, book: &'static [i8; 16], bias: i32) -> Coding {
        let split = matches!(scales, Scales::E4M3Halves);
        Coding { scales, split, low_bits: 4, high_bits: 0, book: Some(book), bias }
    }

    const fn bytes(scales: Scales) -> Coding {
        Coding { scales, split: false, low_bits: 8, high_bits: 0, book: None, bias: 128 }
    }

    /// Whether weights have a minimum of their own.
    pub(crate) const fn has_min(self) -> bool {
        matches!(self.scales, Scales::F16Min | Scales::U8Min | Scales::U4MinHalves)
    }

    /// Bytes of the scales at the start of a group and at the start of a sub-block.
    pub(crate) const fn scale_bytes(self) -> (usize, usize) {
        const F16S: usize = 2 * TILE_ROWS;
        const BYTES: usize = TILE_ROWS;
        match self.scales {
            Scales::F16 => (0, F16S),
            Scales::F16Min => (0, 2 * F16S),
            Scales::U8Min | Scales::U4MinHalves => (2 * F16S, 2 * BYTES),
            Scales::I8 => (F16S, BYTES),
            Scales::I8Halves => (F16S, 2 * BYTES),
            Scales::Head => (F16S, 0),
            Scales::E8M0 => (0, BYTES),
            Scales::E4M3Halves => (0, 2 * BYTES),
            Scales::Blocks => (0, 0),
        }
    }

    /// Bytes of the high bits in a sub-block, which come before the low ones.
    pub(crate) const fn high_bytes(self) -> usize {
        self.high_bits as usize * 4 * TILE_ROWS
    }
}

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
        if ty.is_float() {
            return Layout { head: 0, sub: ty.block_bytes() * TILE_ROWS, n_sub: 1, sub_k: 1 };
        }
        let coding = Coding::of(ty);
        let n_sub = ty.block_elems() / 32;
        if matches!(coding.scales, Scales::Blocks) {
            // A sub-block has no place of its own; the kernels ask for the memory ahead of it in such steps.
            return Layout { head: 0, sub: ty.block_bytes() * TILE_ROWS / n_sub, n_sub, sub_k: 32 };
        }
        let (head, scales) = coding.scale_bytes();
        let sub = scales + coding.high_bytes() + coding.low_bits as usize * 4 * TILE_ROWS;
        Layout { head, sub, n_sub, sub_k: 32 }
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
