//! Types that are packed as the file's own blocks, because anything else would be larger: a kernel has each sub-block
//! decoded to bytes in the first-level cache, and multiplies those.

use half::f16;

use super::layout::TILE_ROWS;
use crate::ggml::grids::{IQ1, IQ1_ADDED_EIGHTH, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS};
use crate::ggml::{GgmlType, base_3_digit, scale_bits_iq1m};

/// 32 columns of a row.
struct Row {
    /// The integers without their signs, eight to a number, the first of them lowest; of a type without sign bits they
    /// are signed, and that bit is flipped.
    eights: [u64; 4],
    /// What says which are negative, if the type has sign bits: see [`Signs`].
    signs: u32,
    /// The scale of the whole block, an f16.
    d: u16,
    /// How many [`unit`]s of it the first and the second 16 columns count.
    steps: [u8; 2],
}

/// Where the signs of the integers are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signs {
    /// The integers have theirs.
    None,
    /// Four times eight bits.
    Eight,
    /// Four times seven bits; the eighth makes the number of negative ones even.
    Seven,
}

impl Signs {
    pub(crate) const fn of(ty: GgmlType) -> Signs {
        match ty {
            GgmlType::IQ3XXS | GgmlType::IQ2XXS | GgmlType::IQ2XS => Signs::Seven,
            GgmlType::IQ3S | GgmlType::IQ2S => Signs::Eight,
            _ => Signs::None,
        }
    }
}

/// A sub-block of a tile, ready for a kernel: scales, then signs, then integers.
///
/// The kernel puts the signs on, many at a time, and draws the even and the odd words of the rows apart.
#[repr(C, align(64))]
pub(crate) struct Expanded {
    /// f16.
    d: [u16; TILE_ROWS],
    steps: [[u8; TILE_ROWS]; 2],
    /// Bit b of byte i: element 8i + b of the row is negative.
    signs: [u32; TILE_ROWS],
    /// Elements 8i..8i + 8.
    eights: [[u64; TILE_ROWS]; 4],
}

/// Bytes before the signs of an [`Expanded`], and before its integers.
pub(crate) const EXPANDED_SIGNS: usize = 4 * TILE_ROWS;
pub(crate) const EXPANDED_INTEGERS: usize = 8 * TILE_ROWS;

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
        Expanded {
            d: [0; TILE_ROWS],
            steps: [[0; TILE_ROWS]; 2],
            signs: [0; TILE_ROWS],
            eights: [[0; TILE_ROWS]; 4],
        }
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
        if Signs::of(ty) == Signs::Seven {
            self.signs.iter_mut().for_each(|signs| *signs = with_eighths(*signs));
        }
    }

    #[inline(always)]
    fn rows<const B: usize>(&mut self, group: &[u8], row_of: impl Fn(&[u8; B]) -> Row) {
        let (blocks, _) = group.as_chunks::<B>();
        for (row, block) in blocks.iter().take(TILE_ROWS).enumerate() {
            let Row { eights, signs, d, steps } = row_of(block);
            for (line, eight) in self.eights.iter_mut().zip(eights) {
                line[row] = eight;
            }
            self.signs[row] = signs;
            self.d[row] = d;
            (self.steps[0][row], self.steps[1][row]) = (steps[0], steps[1]);
        }
    }
}

/// Four times seven bits, each with an eighth that makes the number of ones even, in a byte.
#[inline(always)]
fn with_eighths(sevens: u32) -> u32 {
    let field = |i: u32| (sevens & 0x7f << (7 * i)) << i;
    let bytes = field(0) | field(1) | field(2) | field(3);
    // The highest bit of a byte gathers all of them; what crosses into the next byte stays below its highest.
    let sum = bytes ^ bytes << 4;
    let sum = sum ^ sum << 2;
    let sum = sum ^ sum << 1;
    bytes | sum & 0x8080_8080
}

/// Sub-block `s` of one block: the integers, signed with the sign bit flipped, and the scales of the first and of the
/// second 16 columns.
pub(super) fn expand(ty: GgmlType, block: &[u8], s: usize) -> ([u8; 32], [f32; 2]) {
    let row = row_of(ty, block, s);
    let signs = match Signs::of(ty) {
        Signs::Seven => with_eighths(row.signs),
        Signs::Eight => row.signs,
        Signs::None => 0,
    };
    let q = std::array::from_fn(|k| {
        let byte = row.eights[k / 8].to_le_bytes()[k % 8];
        let is_negative = signs >> k & 1 == 1;
        match Signs::of(ty) {
            Signs::None => byte,
            _ => (if is_negative { byte.wrapping_neg() } else { byte }) ^ 128,
        }
    });
    let d = f16::from_bits(row.d).to_f32() * unit(ty);
    (q, row.steps.map(|steps| d * f32::from(steps)))
}

fn row_of(ty: GgmlType, block: &[u8], s: usize) -> Row {
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
    let mut eights = [0; 4];
    for (i, eight) in eights.iter_mut().enumerate() {
        *eight = pair(&IQ3XXS, block[2 + 8 * s + 2 * i].into(), block[3 + 8 * s + 2 * i].into());
    }
    Row { eights, signs: aux, d: u16_at(block, 0), steps: [odd(aux >> 28); 2] }
}

#[inline(always)]
fn iq3s(block: &[u8; 110], s: usize) -> Row {
    let s = s % 8;
    let high = usize::from(block[66 + s]);
    let mut eights = [0; 4];
    for (i, eight) in eights.iter_mut().enumerate() {
        let low = usize::from(block[2 + 8 * s + 2 * i]) | (high >> (2 * i) & 1) << 8;
        let upper = usize::from(block[3 + 8 * s + 2 * i]) | (high >> (2 * i + 1) & 1) << 8;
        *eight = pair(&IQ3S, low, upper);
    }
    let sc = block[106 + s / 2] >> (4 * (s % 2)) & 15;
    Row { eights, signs: u32_at(block, 74 + 4 * s), d: u16_at(block, 0), steps: [odd(sc.into()); 2] }
}

#[inline(always)]
fn iq2xxs(block: &[u8; 66], s: usize) -> Row {
    let s = s % 8;
    let (indices, aux) = (u32_at(block, 2 + 8 * s), u32_at(block, 6 + 8 * s));
    let mut eights = [0; 4];
    for (i, eight) in eights.iter_mut().enumerate() {
        *eight = IQ2XXS[(indices >> (8 * i) & 255) as usize];
    }
    Row { eights, signs: aux, d: u16_at(block, 0), steps: [odd(aux >> 28); 2] }
}

#[inline(always)]
fn iq2xs(block: &[u8; 74], s: usize) -> Row {
    let s = s % 8;
    let (mut eights, mut signs) = ([0; 4], 0);
    for (i, eight) in eights.iter_mut().enumerate() {
        let word = u16_at(block, 2 + 8 * s + 2 * i);
        *eight = IQ2XS[usize::from(word & 511)];
        signs |= u32::from(word >> 9) << (7 * i);
    }
    Row { eights, signs, d: u16_at(block, 0), steps: odd_nibbles(block[66 + s]) }
}

#[inline(always)]
fn iq2s(block: &[u8; 82], s: usize) -> Row {
    let s = s % 8;
    let high = usize::from(block[66 + s]);
    let mut eights = [0; 4];
    for (i, eight) in eights.iter_mut().enumerate() {
        *eight = IQ2S[usize::from(block[2 + 4 * s + i]) | (high >> (2 * i) & 3) << 8];
    }
    let signs = u32_at(block, 34 + 4 * s);
    Row { eights, signs, d: u16_at(block, 0), steps: odd_nibbles(block[74 + s]) }
}

#[inline(always)]
fn iq1s(block: &[u8; 50], s: usize) -> Row {
    let s = s % 8;
    let bits = u16_at(block, 34 + 2 * s);
    let mut eights = [0; 4];
    for (i, eight) in eights.iter_mut().enumerate() {
        let index = usize::from(block[2 + 4 * s + i]) | usize::from(bits >> (3 * i) & 7) << 8;
        *eight = iq1_grid(index, bits >> 15 == 1);
    }
    Row { eights, signs: 0, d: u16_at(block, 0), steps: [odd((bits >> 12 & 7).into()); 2] }
}

#[inline(always)]
fn iq1m(block: &[u8; 56], s: usize) -> Row {
    let s = s % 8;
    let mut eights = [0; 4];
    for (i, eight) in eights.iter_mut().enumerate() {
        let bits = block[32 + 2 * s + i / 2] >> (4 * (i % 2));
        let index = usize::from(block[4 * s + i]) | usize::from(bits & 7) << 8;
        *eight = iq1_grid(index, bits >> 3 & 1 == 1);
    }
    let scales = u32::from(u16_at(block, 48 + s / 2 * 2) >> (6 * (s % 2)));
    Row { eights, signs: 0, d: scale_bits_iq1m(block), steps: [odd(scales & 7), odd(scales >> 3 & 7)] }
}

#[inline(always)]
fn tq1_0(block: &[u8; 54], s: usize) -> Row {
    // Digits of equal weight stand next to each other: five times 32, five times 16, then four times 4.
    let mut digits = [[0; 8]; 4];
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
    let mut eights = [0; 4];
    for (eight, digits) in eights.iter_mut().zip(digits) {
        *eight = u64::from_le_bytes(digits);
    }
    Row { eights, signs: 0, d: u16_at(block, 52), steps: [1; 2] }
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

/// Two rows of four.
#[inline(always)]
fn pair<const N: usize>(grid: &[u32; N], low: usize, upper: usize) -> u64 {
    u64::from(grid[low % N]) | u64::from(grid[upper % N]) << 32
}

#[inline(always)]
fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

#[inline(always)]
fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}
