//! Types that are packed as the file's own blocks, because anything else would be larger: a kernel has each sub-block
//! decoded to bytes in the first-level cache, and multiplies those.

use super::layout::TILE_ROWS;
use crate::ggml::grids::{
    IQ1, IQ1_ADDED_EIGHTH, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS, SIGNS_OF_7, SIGNS_OF_8, signed,
};
use crate::ggml::{GgmlType, base_3_digit, scale_bits_iq1m};

/// 32 columns of a row.
pub(super) struct Row {
    /// The integers, signed with the sign bit flipped, four to a word.
    pub(super) words: [u32; 8],
    /// The scale of the whole block, an f16.
    pub(super) d: u16,
    /// How many [`unit`]s of it the first and the second 16 columns count.
    pub(super) steps: [u8; 2],
}

/// A sub-block of a tile as the kernels read one of a type of 8 bits: scales, then lines.
#[repr(C, align(64))]
pub(crate) struct Expanded {
    d: [u16; TILE_ROWS],
    steps: [[u8; TILE_ROWS]; 2],
    words: [[u32; TILE_ROWS]; 8],
}

/// Bytes before the lines of an [`Expanded`].
pub(crate) const EXPANDED_SCALE_BYTES: usize = 4 * TILE_ROWS;

/// What a step of the scale counts.
pub(crate) const fn unit(ty: GgmlType) -> f32 {
    match ty {
        GgmlType::IQ3XXS => 0.25,
        // Elements of IQ1 are eighths here.
        GgmlType::IQ2XXS | GgmlType::IQ2XS | GgmlType::IQ2S | GgmlType::IQ1S | GgmlType::IQ1M => 0.125,
        _ => 1.0,
    }
}

impl Expanded {
    /// All zero.
    pub(crate) fn new() -> Expanded {
        Expanded { d: [0; TILE_ROWS], steps: [[0; TILE_ROWS]; 2], words: [[0; TILE_ROWS]; 8] }
    }

    /// Sub-block `s` of `group`, the blocks of a tile's rows.
    #[inline(never)]
    pub(crate) fn fill(&mut self, ty: GgmlType, group: &[u8], s: usize) {
        match ty {
            GgmlType::IQ3XXS => self.rows(group, |block| iq3xxs(block, s)),
            GgmlType::IQ3S => self.rows(group, |block| iq3s(block, s)),
            GgmlType::IQ2XXS => self.rows(group, |block| iq2xxs(block, s)),
            GgmlType::IQ2XS => self.rows(group, |block| iq2xs(block, s)),
            GgmlType::IQ2S => self.rows(group, |block| iq2s(block, s)),
            GgmlType::IQ1S => self.rows(group, |block| iq1s(block, s)),
            GgmlType::IQ1M => self.rows(group, |block| iq1m(block, s)),
            GgmlType::TQ1_0 => self.rows(group, |block| tq1_0(block, s)),
            _ => unreachable!("{} is packed in lines", ty.name()),
        }
    }

    #[inline(always)]
    fn rows<const B: usize>(&mut self, group: &[u8], row_of: impl Fn(&[u8; B]) -> Row) {
        let (blocks, _) = group.as_chunks::<B>();
        for (row, block) in blocks.iter().take(TILE_ROWS).enumerate() {
            let Row { words, d, steps } = row_of(block);
            for (line, word) in self.words.iter_mut().zip(words) {
                line[row] = word;
            }
            self.d[row] = d;
            (self.steps[0][row], self.steps[1][row]) = (steps[0], steps[1]);
        }
    }
}

/// Sub-block `s` of one block.
pub(super) fn expand(ty: GgmlType, block: &[u8], s: usize) -> Row {
    fn at<const B: usize>(block: &[u8]) -> &[u8; B] {
        block.first_chunk().expect("a whole block")
    }
    match ty {
        GgmlType::IQ3XXS => iq3xxs(at(block), s),
        GgmlType::IQ3S => iq3s(at(block), s),
        GgmlType::IQ2XXS => iq2xxs(at(block), s),
        GgmlType::IQ2XS => iq2xs(at(block), s),
        GgmlType::IQ2S => iq2s(at(block), s),
        GgmlType::IQ1S => iq1s(at(block), s),
        GgmlType::IQ1M => iq1m(at(block), s),
        GgmlType::TQ1_0 => tq1_0(at(block), s),
        _ => unreachable!("{} is packed in lines", ty.name()),
    }
}

// Loops rather than closures over arrays: the compiler unrolls the one and calls the other.

#[inline(always)]
fn iq3xxs(block: &[u8; 98], s: usize) -> Row {
    let s = s % 8;
    let aux = u32_at(block, 66 + 4 * s);
    let mut words = [0; 8];
    for i in 0..4 {
        let grid = pair(&IQ3XXS, block[2 + 8 * s + 2 * i].into(), block[3 + 8 * s + 2 * i].into());
        put(&mut words, i, signed(grid, seven_signs(aux >> (7 * i))));
    }
    Row { words, d: u16_at(block, 0), steps: [odd(aux >> 28); 2] }
}

#[inline(always)]
fn iq3s(block: &[u8; 110], s: usize) -> Row {
    let s = s % 8;
    let high = usize::from(block[66 + s]);
    let mut words = [0; 8];
    for i in 0..4 {
        let low = usize::from(block[2 + 8 * s + 2 * i]) | (high >> (2 * i) & 1) << 8;
        let upper = usize::from(block[3 + 8 * s + 2 * i]) | (high >> (2 * i + 1) & 1) << 8;
        let signs = SIGNS_OF_8[usize::from(block[74 + 4 * s + i])];
        put(&mut words, i, signed(pair(&IQ3S, low, upper), signs));
    }
    let sc = block[106 + s / 2] >> (4 * (s % 2)) & 15;
    Row { words, d: u16_at(block, 0), steps: [odd(sc.into()); 2] }
}

#[inline(always)]
fn iq2xxs(block: &[u8; 66], s: usize) -> Row {
    let s = s % 8;
    let (indices, aux) = (u32_at(block, 2 + 8 * s), u32_at(block, 6 + 8 * s));
    let mut words = [0; 8];
    for i in 0..4 {
        let grid = IQ2XXS[(indices >> (8 * i) & 255) as usize];
        put(&mut words, i, signed(grid, seven_signs(aux >> (7 * i))));
    }
    Row { words, d: u16_at(block, 0), steps: [odd(aux >> 28); 2] }
}

#[inline(always)]
fn iq2xs(block: &[u8; 74], s: usize) -> Row {
    let s = s % 8;
    let mut words = [0; 8];
    for i in 0..4 {
        let word = u16_at(block, 2 + 8 * s + 2 * i);
        put(&mut words, i, signed(IQ2XS[usize::from(word & 511)], seven_signs(u32::from(word >> 9))));
    }
    Row { words, d: u16_at(block, 0), steps: odd_nibbles(block[66 + s]) }
}

#[inline(always)]
fn iq2s(block: &[u8; 82], s: usize) -> Row {
    let s = s % 8;
    let high = usize::from(block[66 + s]);
    let mut words = [0; 8];
    for i in 0..4 {
        let index = usize::from(block[2 + 4 * s + i]) | (high >> (2 * i) & 3) << 8;
        put(&mut words, i, signed(IQ2S[index], SIGNS_OF_8[usize::from(block[34 + 4 * s + i])]));
    }
    Row { words, d: u16_at(block, 0), steps: odd_nibbles(block[74 + s]) }
}

#[inline(always)]
fn iq1s(block: &[u8; 50], s: usize) -> Row {
    let s = s % 8;
    let bits = u16_at(block, 34 + 2 * s);
    let mut words = [0; 8];
    for i in 0..4 {
        let index = usize::from(block[2 + 4 * s + i]) | usize::from(bits >> (3 * i) & 7) << 8;
        put(&mut words, i, iq1_grid(index, bits >> 15 == 1));
    }
    Row { words, d: u16_at(block, 0), steps: [odd((bits >> 12 & 7).into()); 2] }
}

#[inline(always)]
fn iq1m(block: &[u8; 56], s: usize) -> Row {
    let s = s % 8;
    let mut words = [0; 8];
    for i in 0..4 {
        let bits = block[32 + 2 * s + i / 2] >> (4 * (i % 2));
        let index = usize::from(block[4 * s + i]) | usize::from(bits & 7) << 8;
        put(&mut words, i, iq1_grid(index, bits >> 3 & 1 == 1));
    }
    let scales = u32::from(u16_at(block, 48 + s / 2 * 2) >> (6 * (s % 2)));
    Row { words, d: scale_bits_iq1m(block), steps: [odd(scales & 7), odd(scales >> 3 & 7)] }
}

#[inline(always)]
fn tq1_0(block: &[u8; 54], s: usize) -> Row {
    // Digits of equal weight stand next to each other: five times 32, five times 16, then four times 4.
    let mut digits = [[0; 4]; 8];
    if s < 5 {
        for (digit, byte) in digits.as_flattened_mut().iter_mut().zip(block) {
            *digit = base_3_digit(*byte, s) + 127;
        }
    } else {
        let (low, high) = digits.as_flattened_mut().split_at_mut(16);
        for (k, (low, high)) in low.iter_mut().zip(high).enumerate() {
            *low = base_3_digit(block[32 + k], 2 * s - 10) + 127;
            *high = match s {
                ..7 => base_3_digit(block[32 + k], 2 * s - 9),
                _ => base_3_digit(block[48 + k % 4], k / 4),
            } + 127;
        }
    }
    let mut words = [0; 8];
    for (word, digits) in words.iter_mut().zip(digits) {
        *word = u32::from_le_bytes(digits);
    }
    Row { words, d: u16_at(block, 52), steps: [1; 2] }
}

#[inline(always)]
fn iq1_grid(index: usize, takes_off: bool) -> u64 {
    // No byte reaches 255, so none carries.
    IQ1[index % IQ1.len()] + if takes_off { 0 } else { IQ1_ADDED_EIGHTH }
}

/// Scales count a half on top of their number: in halves, they are odd.
#[inline(always)]
fn odd(sc: u32) -> u8 {
    (2 * sc + 1) as u8
}

#[inline(always)]
fn odd_nibbles(sc: u8) -> [u8; 2] {
    [odd((sc & 15).into()), odd((sc >> 4).into())]
}

#[inline(always)]
fn seven_signs(bits: u32) -> u64 {
    SIGNS_OF_7[(bits & 127) as usize]
}

/// Two rows of four.
#[inline(always)]
fn pair<const N: usize>(grid: &[u32; N], low: usize, upper: usize) -> u64 {
    u64::from(grid[low % N]) | u64::from(grid[upper % N]) << 32
}

/// The i-th eight bytes of 32.
#[inline(always)]
fn put(words: &mut [u32; 8], i: usize, eight: u64) {
    (words[2 * i], words[2 * i + 1]) = (eight as u32, (eight >> 32) as u32);
}

#[inline(always)]
fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

#[inline(always)]
fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}
