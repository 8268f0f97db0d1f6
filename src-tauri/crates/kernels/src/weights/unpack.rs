//! Back from packed tiles to numbers, plainly: for embeddings, the scalar kernel and tests.

use half::bf16;

use super::expand::expand;
use super::layout::{Coding, Layout, Scales, TILE_ROWS};
use crate::ggml::{GgmlType, half};

/// The integers and scales of one row of a sub-block. A weight is `scale[k / 16] * (q - bias) + min[k / 16]`.
pub(crate) struct SubBlock {
    /// As stored: without a sign.
    pub(crate) q: [u8; 32],
    /// The scale of the first and of the second 16 columns.
    pub(crate) scale: [f32; 2],
    /// What is added to every weight of them. Minus zero is the neutral element of addition: types without minimum
    /// stay exact.
    pub(crate) min: [f32; 2],
}

impl SubBlock {
    /// Row `row` of sub-block `sub_idx` (columns `32 sub_idx..`) of a tile of a quantised type.
    pub(crate) fn read(ty: GgmlType, tile: &[u8], sub_idx: usize, row: usize) -> SubBlock {
        const NO_MIN: [f32; 2] = [-0.0; 2];
        let (layout, coding) = (Layout::of(ty), Coding::of(ty));
        let group = &tile[sub_idx / layout.n_sub * layout.group_bytes()..][..layout.group_bytes()];
        if coding.scales == Scales::Blocks {
            let block = &group[row * ty.block_bytes()..][..ty.block_bytes()];
            let (q, scale) = expand(ty, block, sub_idx % layout.n_sub);
            return SubBlock { q, scale, min: NO_MIN };
        }
        let sub = &group[layout.head + sub_idx % layout.n_sub * layout.sub..][..layout.sub];
        let byte = |i: usize| sub[TILE_ROWS * i + row];
        let unsigned = |i: usize| f32::from(byte(i));
        let signed = |i: usize| f32::from(byte(i).cast_signed());
        let head_f16 = |i: usize| half(group, 2 * TILE_ROWS * i + 2 * row);
        let f16 = |i: usize| half(sub, 2 * TILE_ROWS * i + 2 * row);
        let (scale, min) = match coding.scales {
            Scales::F16 => ([f16(0); 2], NO_MIN),
            Scales::F16Min => ([f16(0); 2], [f16(1); 2]),
            Scales::U8Min => ([head_f16(0) * unsigned(0); 2], [-(head_f16(1) * unsigned(1)); 2]),
            Scales::I8 => ([head_f16(0) * signed(0); 2], NO_MIN),
            Scales::I8Halves => ([head_f16(0) * signed(0), head_f16(0) * signed(1)], NO_MIN),
            Scales::U4MinHalves => {
                let (d, dmin) = (head_f16(0), head_f16(1));
                (
                    [0, 1].map(|i| d * f32::from(byte(i) & 15)),
                    [0, 1].map(|i| -(dmin * f32::from(byte(i) >> 4))),
                )
            }
            Scales::Head => ([head_f16(0); 2], NO_MIN),
            Scales::E8M0 => ([e8m0_half(byte(0)); 2], NO_MIN),
            Scales::E4M3Halves => ([e4m3_half(byte(0)), e4m3_half(byte(1))], NO_MIN),
            Scales::Blocks => unreachable!("read above"),
        };
        SubBlock { q: integers(coding, &sub[coding.scale_bytes().1..], row), scale, min }
    }
}

/// Half of the power of two whose exponent `e` is.
fn e8m0_half(e: u8) -> f32 {
    // The two smallest are below the normal range.
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 })
}

/// Half of a float of four bits of exponent and three of mantissa.
fn e4m3_half(x: u8) -> f32 {
    // The bits at their place in an f32, whose exponents start 120 lower.
    f32::from_bits(u32::from(x) << 20) * E4M3_HALF
}

/// What turns the bits of an E4M3 number in the place of an f32's into half of it: 2^119.
pub(crate) const E4M3_HALF: f32 = f32::from_bits((119 + 127) << 23);

/// The integers of a row, from the lines after the scales.
fn integers(coding: Coding, lines: &[u8], row: usize) -> [u8; 32] {
    const WORD: usize = 4 * TILE_ROWS;
    let at = |line: usize, i: usize| lines[line * WORD + 4 * row + i % 4];
    let first = coding.high_bits as usize;
    std::array::from_fn(|k| {
        let word = k / 4;
        let low = match coding.low_bits {
            8 => at(first + word, k),
            4 => at(first + word % 4, k) >> (4 * (word / 4)) & 15,
            _ => at(first + word / 4, k) >> (2 * (word % 4)) & 3,
        };
        let high = match coding.high_bits {
            2 => at(word / 4, k) >> (2 * (word % 4)) & 3,
            1 => at(0, k) >> word & 1,
            _ => 0,
        };
        match coding.book {
            Some(book) => (i32::from(book[usize::from(low)]) + coding.bias) as u8,
            None => low | (u32::from(high) << coding.low_bits) as u8,
        }
    })
}

/// Writes the values of row `row` of a tile to `out`.
pub(super) fn row(ty: GgmlType, tile: &[u8], row: usize, out: &mut [f32]) {
    let column = |k: usize, bytes: usize| &tile[k * bytes * TILE_ROWS + row * bytes..][..bytes];
    match ty {
        GgmlType::F32 => out.iter_mut().enumerate().for_each(|(k, y)| {
            let b = column(k, 4);
            *y = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }),
        GgmlType::F16 => out.iter_mut().enumerate().for_each(|(k, y)| *y = half(column(k, 2), 0)),
        GgmlType::BF16 => out.iter_mut().enumerate().for_each(|(k, y)| {
            let b = column(k, 2);
            *y = bf16::from_le_bytes([b[0], b[1]]).to_f32();
        }),
        _ => {
            let bias = Coding::of(ty).bias;
            for (sub_idx, out) in out.chunks_exact_mut(32).enumerate() {
                let sub = SubBlock::read(ty, tile, sub_idx, row);
                for (k, y) in out.iter_mut().enumerate() {
                    *y = sub.scale[k / 16] * (i32::from(sub.q[k]) - bias) as f32 + sub.min[k / 16];
                }
            }
        }
    }
}
