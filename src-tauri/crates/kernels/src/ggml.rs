//! The tensor types of GGUF files that the kernels multiply with, and their plain dequantisation: the oracle of
//! every faster path.
//!
//! A block holds consecutive elements of one row. All numbers are little-endian; `d`, `m` are f16.
//!
//! | type | elements | bytes | block | value |
//! |---|---|---|---|---|
//! | Q4_0 | 32 | 18 | d, 16 × nibbles | d (q − 8) |
//! | Q4_1 | 32 | 20 | d, m, 16 × nibbles | d q + m |
//! | Q5_0 | 32 | 22 | d, 4 × high bits, 16 × nibbles | d (q − 16) |
//! | Q5_1 | 32 | 24 | d, m, 4 × high bits, 16 × nibbles | d q + m |
//! | Q8_0 | 32 | 34 | d, 32 × i8 | d q |
//! | Q2_K | 256 | 84 | 16 × nibbles (sc, mn), 64 × 2 bits, d, dmin | (d sc) q − (dmin mn) |
//! | Q3_K | 256 | 110 | 32 × high bits, 64 × 2 bits, 12 × 6-bit sc, d | (d (sc − 32)) (q − 4) |
//! | Q4_K | 256 | 144 | d, dmin, 12 × 6-bit (sc, mn), 128 × nibbles | (d sc) q − (dmin mn) |
//! | Q5_K | 256 | 176 | d, dmin, 12 × 6-bit, 32 × high bits, 128 × nibbles | (d sc) q − (dmin mn) |
//! | Q6_K | 256 | 210 | 128 × nibbles, 64 × 2 high bits, 16 × i8 sc, d | (d sc) (q − 32) |
//! | IQ4_NL | 32 | 18 | d, 16 × nibbles | d book\[q\] |
//! | IQ4_XS | 256 | 136 | d, 8 × 6-bit sc, 128 × nibbles | (d (sc − 32)) book\[q\] |
//! | MXFP4 | 32 | 17 | e, 16 × nibbles | 2^(e − 128) fp4\[q\] |
//! | NVFP4 | 64 | 36 | 4 × sc, 32 × nibbles | (sc / 2) fp4\[q\] |
//! | IQ3_XXS | 256 | 98 | d, 64 × grid of 4, 8 × (28 bits of signs, sc) | (d (sc + ½) / 2) ± grid |
//! | IQ3_S | 256 | 110 | d, 64 × grid of 4, 8 × high bits, 32 × signs, 4 × nibbles sc | (d (2 sc + 1)) ± grid |
//! | IQ2_XXS | 256 | 66 | d, 8 × (4 × grid of 8, 28 bits of signs, sc) | (d (sc + ½) / 4) ± grid |
//! | IQ2_XS | 256 | 74 | d, 32 × (9 bits of grid of 8, 7 of signs), 8 × nibbles sc | (d (sc + ½) / 4) ± grid |
//! | IQ2_S | 256 | 82 | d, 32 × grid of 8, 32 × signs, 8 × high bits, 8 × nibbles sc | (d (sc + ½) / 4) ± grid |
//! | IQ1_S | 256 | 50 | d, 32 × grid of 8, 8 × (12 high bits, sc, sign of ⅛) | (d (2 sc + 1)) (grid ± ⅛) |
//! | IQ1_M | 256 | 56 | 32 × grid of 8, 16 × (high bits, sign of ⅛), 4 × (4 × 3-bit sc, 4 bits of d) | (d (2 sc + 1)) (grid ± ⅛) |
//! | TQ1_0 | 256 | 54 | 48 × 5 digits of base 3, 4 × 4 digits, d | d (q − 1) |
//! | TQ2_0 | 256 | 66 | 64 × 2 bits, d | d (q − 1) |
//!
//! The formats are those of ggml, whose `ggml-common.h` lists the blocks. A tensor in NVFP4 has one more scale, which
//! its file keeps beside it and [`crate::weights::Weights::scaled`] takes.

mod dequantize;
pub(crate) mod grids;
mod packed_grids;

use half::f16;

pub use dequantize::dequantize;

/// A tensor type as GGUF numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the table above says what they are")]
pub enum GgmlType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    IQ4NL,
    IQ4XS,
    MXFP4,
    NVFP4,
    IQ3XXS,
    IQ3S,
    IQ2XXS,
    IQ2XS,
    IQ2S,
    IQ1S,
    IQ1M,
    TQ1_0,
    TQ2_0,
}

use GgmlType::*;

impl GgmlType {
    /// Every type, in the order of the table above.
    pub const ALL: [GgmlType; 26] = [
        F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K, IQ4NL, IQ4XS, MXFP4, NVFP4,
        IQ3XXS, IQ3S, IQ2XXS, IQ2XS, IQ2S, IQ1S, IQ1M, TQ1_0, TQ2_0,
    ];

    /// GGUF's number, the name that the field uses, and how many elements and bytes a block has.
    const fn facts(self) -> (u32, &'static str, usize, usize) {
        match self {
            F32 => (0, "F32", 1, 4),
            F16 => (1, "F16", 1, 2),
            BF16 => (30, "BF16", 1, 2),
            Q4_0 => (2, "Q4_0", 32, 18),
            Q4_1 => (3, "Q4_1", 32, 20),
            Q5_0 => (6, "Q5_0", 32, 22),
            Q5_1 => (7, "Q5_1", 32, 24),
            Q8_0 => (8, "Q8_0", 32, 34),
            Q2K => (10, "Q2_K", 256, 84),
            Q3K => (11, "Q3_K", 256, 110),
            Q4K => (12, "Q4_K", 256, 144),
            Q5K => (13, "Q5_K", 256, 176),
            Q6K => (14, "Q6_K", 256, 210),
            IQ4NL => (20, "IQ4_NL", 32, 18),
            IQ4XS => (23, "IQ4_XS", 256, 136),
            MXFP4 => (39, "MXFP4", 32, 17),
            NVFP4 => (40, "NVFP4", 64, 36),
            IQ3XXS => (18, "IQ3_XXS", 256, 98),
            IQ3S => (21, "IQ3_S", 256, 110),
            IQ2XXS => (16, "IQ2_XXS", 256, 66),
            IQ2XS => (17, "IQ2_XS", 256, 74),
            IQ2S => (22, "IQ2_S", 256, 82),
            IQ1S => (19, "IQ1_S", 256, 50),
            IQ1M => (29, "IQ1_M", 256, 56),
            TQ1_0 => (34, "TQ1_0", 256, 54),
            TQ2_0 => (35, "TQ2_0", 256, 66),
        }
    }

    /// The type that GGUF files call `id`; `None` for one that the kernels do not know.
    pub fn from_gguf_id(id: u32) -> Option<GgmlType> {
        GgmlType::ALL.into_iter().find(|ty| ty.facts().0 == id)
    }

    /// The type that the field calls `name`, as `Q4_K`; `None` for one that the kernels do not know.
    pub fn from_name(name: &str) -> Option<GgmlType> {
        GgmlType::ALL.into_iter().find(|ty| ty.name() == name)
    }

    /// How many elements of a row one block holds.
    pub const fn block_elems(self) -> usize {
        self.facts().2
    }

    /// How many bytes one block takes in the file.
    pub const fn block_bytes(self) -> usize {
        self.facts().3
    }

    /// How many bytes `n` consecutive elements take; `None` when they do not fill whole blocks or the number
    /// does not fit.
    pub fn bytes_of(self, n: usize) -> Option<usize> {
        (n.is_multiple_of(self.block_elems()))
            .then(|| (n / self.block_elems()).checked_mul(self.block_bytes()))?
    }

    /// The name that the field uses.
    pub const fn name(self) -> &'static str {
        self.facts().1
    }

    /// Whether its values are numbers of their own, without blocks.
    pub const fn is_float(self) -> bool {
        matches!(self, F32 | F16 | BF16)
    }
}

/// What the nibbles of IQ4_NL and IQ4_XS stand for.
pub(crate) const IQ4_BOOK: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// What the nibbles of MXFP4 and NVFP4 stand for, doubled: floats of a sign, two bits of exponent and one of mantissa.
pub(crate) const FP4_BOOK: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The 6-bit scale and minimum of sub-block `s` of a Q4_K or Q5_K block: the first four of each stand in the
/// low six bits of bytes 0..4 and 4..8; of the others the low four bits in bytes 8..12, the upper two on top
/// of the first four's bytes.
pub(crate) fn scale_and_min_k(scales: &[u8], s: usize) -> (u8, u8) {
    if s < 4 {
        (scales[s] & 63, scales[s + 4] & 63)
    } else {
        (scales[s + 4] & 15 | scales[s - 4] >> 6 << 4, scales[s + 4] >> 4 | scales[s] >> 6 << 4)
    }
}

/// The scale of the i-th 16 columns of a Q3_K block: the low four bits of the first eight are the low nibbles of bytes
/// 0..8, those of the others the high nibbles; the upper two of four consecutive ones are bits of bytes 8..12.
pub(crate) fn scale_q3k(scales: &[u8], i: usize) -> i8 {
    let low = scales[i % 8] >> (4 * (i / 8)) & 15;
    let high = scales[8 + i % 4] >> (2 * (i / 4)) & 3;
    (low | high << 4).cast_signed() - 32
}

/// The scale of the s-th 32 columns of an IQ4_XS block: two upper bits from bytes 2..4, four lower ones from 4..8.
pub(crate) fn scale_iq4xs(block: &[u8], s: usize) -> i8 {
    let low = block[4 + s / 2] >> (4 * (s % 2)) & 15;
    let high = block[2 + s / 4] >> (2 * (s % 4)) & 3;
    (low | high << 4).cast_signed() - 32
}

/// The scale of a whole IQ1_M block: the bits of an f16, of which each of the last four 16-bit numbers has four bits on top.
#[inline]
pub(crate) fn scale_bits_iq1m(block: &[u8]) -> u16 {
    let nibble = |i: usize| u16::from(block[49 + 2 * i] >> 4) << (4 * i);
    nibble(0) | nibble(1) | nibble(2) | nibble(3)
}

/// The f16 at byte `at`.
pub(crate) fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Digit `i` of the five to base 3 that a byte of TQ1_0 holds: the byte counts 256ths of 3^-5 of them.
#[inline]
pub(crate) fn base_3_digit(byte: u8, i: usize) -> u8 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    ((u16::from(byte.wrapping_mul(POWERS[i])) * 3) >> 8) as u8
}

#[cfg(test)]
mod tests;
