//! Back from packed tiles to numbers, plainly: for embeddings, the scalar kernel and tests.

use half::bf16;

use super::layout::{Layout, TILE_ROWS};
use crate::ggml::{GgmlType, half};

/// The integers and scales of one row of a sub-block. A weight is `scale[k / 16] * (q - bias) + min`.
pub(crate) struct SubBlock {
    /// As stored: without a sign.
    pub(crate) q: [u8; 32],
    /// The scale of the first and of the second 16 columns.
    pub(crate) scale: [f32; 2],
    /// What is added to every weight.
    pub(crate) min: f32,
}

impl SubBlock {
    /// Row `row` of sub-block `sub_idx` (columns `32 sub_idx..`) of a tile of a quantised type.
    pub(crate) fn read(ty: GgmlType, tile: &[u8], sub_idx: usize, row: usize) -> SubBlock {
        let layout = Layout::of(ty);
        let head = &tile[sub_idx / layout.n_sub * layout.group_bytes()..][..layout.group_bytes()];
        let sub = &head[layout.head + sub_idx % layout.n_sub * layout.sub..][..layout.sub];
        let byte = |at: usize| f32::from(sub[at + row]);
        let signed = |at: usize| f32::from(sub[at + row].cast_signed());
        let head_f16 = |i: usize| half(head, 2 * TILE_ROWS * i + 2 * row);
        let f16 = |i: usize| half(sub, 2 * TILE_ROWS * i + 2 * row);
        let (scale, min, lines) = match ty {
            GgmlType::Q4_1 | GgmlType::Q5_1 => ([f16(0); 2], f16(1), 4 * TILE_ROWS),
            GgmlType::Q4K | GgmlType::Q5K => {
                let d = head_f16(0) * byte(0);
                ([d; 2], -(head_f16(1) * byte(TILE_ROWS)), 2 * TILE_ROWS)
            }
            GgmlType::Q6K => {
                let d = head_f16(0);
                ([d * signed(0), d * signed(TILE_ROWS)], -0.0, 2 * TILE_ROWS)
            }
            _ => ([f16(0); 2], -0.0, 2 * TILE_ROWS),
        };
        SubBlock { q: integers(ty, &sub[lines..], row), scale, min }
    }
}

/// What is subtracted from the stored integers of a type.
pub(crate) const fn bias(ty: GgmlType) -> i32 {
    match ty {
        GgmlType::Q4_0 => 8,
        GgmlType::Q5_0 => 16,
        GgmlType::Q6K => 32,
        GgmlType::Q8_0 => 128,
        _ => 0,
    }
}

/// Whether weights of a type have a minimum of their own.
pub(crate) const fn has_min(ty: GgmlType) -> bool {
    matches!(ty, GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4K | GgmlType::Q5K)
}

/// The integers of a row, from the lines after the scales.
fn integers(ty: GgmlType, lines: &[u8], row: usize) -> [u8; 32] {
    const WORD: usize = 4 * TILE_ROWS;
    let at = |line: usize, i: usize| lines[line * WORD + 4 * row + i % 4];
    let nibble = |first: usize, k: usize| {
        let byte = at(first + k / 4 % 4, k);
        if k < 16 { byte & 15 } else { byte >> 4 }
    };
    std::array::from_fn(|k| {
        let word = k / 4;
        match ty {
            GgmlType::Q8_0 => at(word, k),
            GgmlType::Q5_0 | GgmlType::Q5_1 | GgmlType::Q5K => nibble(1, k) | (at(0, k) >> word & 1) << 4,
            GgmlType::Q6K => nibble(2, k) | (at(word / 4, k) >> (2 * (word % 4)) & 3) << 4,
            _ => nibble(0, k),
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
            for (sub_idx, out) in out.chunks_exact_mut(32).enumerate() {
                let sub = SubBlock::read(ty, tile, sub_idx, row);
                for (k, y) in out.iter_mut().enumerate() {
                    // Minus zero is the neutral element of addition: types without minimum stay exact.
                    *y = sub.scale[k / 16] * (i32::from(sub.q[k]) - bias(ty)) as f32 + sub.min;
                }
            }
        }
    }
}
