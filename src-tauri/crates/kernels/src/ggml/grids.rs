//! The grids of IQ1, IQ2 and IQ3: a row of one is 4 or 8 elements, which a block names by its index.
//!
//! Once plainly, element by element; once as the kernels read them, a row as the bytes of one number.

use super::packed_grids as packed;

const IQ3XXS_VALUES: [u8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];
const IQ3S_VALUES: [u8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];
const IQ2_VALUES: [u8; 3] = [8, 25, 43];

/// Element `i` of a row of IQ3_XXS.
pub(super) fn iq3xxs(row: u16, i: usize) -> f32 {
    f32::from(IQ3XXS_VALUES[usize::from(row >> (4 * i) & 15)])
}

/// Element `i` of a row of IQ3_S.
pub(super) fn iq3s(row: u16, i: usize) -> f32 {
    f32::from(IQ3S_VALUES[usize::from(row >> (4 * i) & 15)])
}

/// Element `i` of a row of IQ2_XXS, IQ2_XS or IQ2_S.
pub(super) fn iq2(row: u16, i: usize) -> f32 {
    f32::from(IQ2_VALUES[usize::from(row >> (2 * i) & 3)])
}

/// Element `i` of a row of IQ1.
pub(super) fn iq1(row: u16, i: usize) -> f32 {
    f32::from(row >> (2 * i) & 3) - 1.0
}

/// Rows of four bytes, the first element lowest.
pub(crate) static IQ3XXS: [u32; 256] = fours(&packed::IQ3XXS, IQ3XXS_VALUES);
/// As [`IQ3XXS`].
pub(crate) static IQ3S: [u32; 512] = fours(&packed::IQ3S, IQ3S_VALUES);
/// Rows of eight bytes, the first element lowest.
pub(crate) static IQ2XXS: [u64; 256] = eights(&packed::IQ2XXS, IQ2_VALUES);
/// As [`IQ2XXS`].
pub(crate) static IQ2XS: [u64; 512] = eights(&packed::IQ2XS, IQ2_VALUES);
/// As [`IQ2XXS`].
pub(crate) static IQ2S: [u64; 1024] = eights(&packed::IQ2S, IQ2_VALUES);
/// As [`IQ2XXS`], each byte 8 times its element, less 1, plus 128: with the eighth that a block takes off all elements,
/// and the sign bit flipped. [`IQ1_ADDED_EIGHTH`] makes it one added to them.
pub(crate) static IQ1: [u64; 2048] = eights(&packed::IQ1, [119, 127, 135]);
/// See [`IQ1`].
pub(crate) const IQ1_ADDED_EIGHTH: u64 = 2 * ONES;

const ONES: u64 = 0x0101_0101_0101_0101;

const fn fours<const N: usize>(packed: &[u16; N], values: [u8; 8]) -> [u32; N] {
    let (mut rows, mut row) = ([0; N], 0);
    while row < N {
        let mut i = 0;
        while i < 4 {
            rows[row] |= (values[(packed[row] >> (4 * i) & 15) as usize] as u32) << (8 * i);
            i += 1;
        }
        row += 1;
    }
    rows
}

const fn eights<const N: usize>(packed: &[u16; N], values: [u8; 3]) -> [u64; N] {
    let (mut rows, mut row) = ([0; N], 0);
    while row < N {
        let mut i = 0;
        while i < 8 {
            rows[row] |= (values[(packed[row] >> (2 * i) & 3) as usize] as u64) << (8 * i);
            i += 1;
        }
        row += 1;
    }
    rows
}
