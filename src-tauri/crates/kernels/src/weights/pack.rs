//! From the file's blocks, row by row, to packed tiles.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::layout::{Layout, TILE_ROWS};
use crate::ggml::{GgmlType, scale_and_min_k, scale_iq4xs, scale_q3k};
use crate::threads::{SharedMut, Threads};

/// What a thread reads at a time, unless a single tile's rows are more: it stays in the processor's cache.
const PIECE_BYTES: usize = 256 << 10;

/// What all threads pack before the caller hears of it: a moment's work, and far more than waiting for each other costs.
const BAND_BYTES: usize = 64 << 20;

/// Fills `data`, zeroed, with the tiles of a matrix of `n_rows` rows, `row_bytes` long each, that `read` gets: it fills
/// a slice from a byte offset on. `done` is told how many more bytes of the file have been packed, now and then.
///
/// # Errors
/// The first thing that `read` or `done` says.
pub(super) fn pack<E: Send>(
    threads: &Threads,
    ty: GgmlType,
    (n_rows, row_bytes): (usize, usize),
    read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    data: &mut [u8],
    done: &mut dyn FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    let n_tiles = n_rows.div_ceil(TILE_ROWS);
    let tile_bytes = data.len() / n_tiles;
    let tiles = SharedMut::new(data);
    let n_at_once = (PIECE_BYTES / (TILE_ROWS * row_bytes)).max(1);
    let n_in_band = (BAND_BYTES / (TILE_ROWS * row_bytes)).max(1).next_multiple_of(n_at_once);
    // Guards the first error alone.
    let failed: Mutex<Option<E>> = Mutex::new(None);
    let has_failed = AtomicBool::new(false);
    for band_start in (0..n_tiles).step_by(n_in_band) {
        let band_end = n_tiles.min(band_start + n_in_band);
        threads.for_each(band_end - band_start, n_at_once, |range| {
            let mut rows = Vec::new();
            for first_tile in range.clone().step_by(n_at_once) {
                if has_failed.load(Ordering::Relaxed) {
                    return;
                }
                let last_tile = band_start + range.end.min(first_tile + n_at_once);
                let first_tile = band_start + first_tile;
                let (start, end) = (first_tile * TILE_ROWS, n_rows.min(last_tile * TILE_ROWS));
                rows.resize((end - start) * row_bytes, 0);
                if let Err(error) = read(start * row_bytes, &mut rows) {
                    has_failed.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return;
                }
                for (tile_idx, rows) in (first_tile..last_tile).zip(rows.chunks(TILE_ROWS * row_bytes)) {
                    // SAFETY: each tile is handed out once.
                    let tile = unsafe { tiles.range(tile_idx * tile_bytes..(tile_idx + 1) * tile_bytes) };
                    pack_tile(ty, rows, row_bytes, tile);
                }
            }
        });
        if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let n_packed = n_rows.min(band_end * TILE_ROWS) - band_start * TILE_ROWS;
        done(n_packed * row_bytes)?;
    }
    Ok(())
}

fn pack_tile(ty: GgmlType, rows: &[u8], row_bytes: usize, tile: &mut [u8]) {
    let layout = Layout::of(ty);
    for (group_idx, group) in tile.chunks_exact_mut(layout.group_bytes()).enumerate() {
        for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
            let block = &bytes[group_idx * ty.block_bytes()..][..ty.block_bytes()];
            match ty {
                GgmlType::F32 => group[4 * row..][..4].copy_from_slice(block),
                GgmlType::F16 | GgmlType::BF16 => put_f16(group, 0, row, block),
                GgmlType::Q4_0 | GgmlType::Q4_1 | GgmlType::Q5_0 | GgmlType::Q5_1 | GgmlType::IQ4NL => {
                    pack_small(ty, group, row, block);
                }
                GgmlType::Q8_0 => {
                    put_f16(group, 0, row, &block[..2]);
                    for (word, bytes) in block[2..].chunks_exact(4).enumerate() {
                        let flipped = [bytes[0] ^ 128, bytes[1] ^ 128, bytes[2] ^ 128, bytes[3] ^ 128];
                        put_word(&mut group[2 * TILE_ROWS..], word, row, flipped);
                    }
                }
                GgmlType::Q2K => pack_q2k(group, row, block),
                GgmlType::Q3K => pack_q3k(group, row, block),
                GgmlType::Q4K | GgmlType::Q5K => pack_q45k(ty, group, row, block),
                GgmlType::Q6K => pack_q6k(group, row, block),
                GgmlType::IQ4XS => pack_iq4xs(group, row, block),
                GgmlType::MXFP4 => {
                    group[row] = block[0];
                    put_nibbles(&mut group[TILE_ROWS..], row, &block[1..]);
                }
                GgmlType::NVFP4 => pack_nvfp4(group, row, block),
                GgmlType::TQ2_0 => {
                    put_f16(group, 0, row, &block[64..]);
                    let layout = Layout::of(ty);
                    for (s, sub) in group[layout.head..].chunks_exact_mut(layout.sub).enumerate() {
                        put_crumbs(sub, row, crumbs(block, s));
                    }
                }
                GgmlType::IQ3XXS
                | GgmlType::IQ3S
                | GgmlType::IQ2XXS
                | GgmlType::IQ2XS
                | GgmlType::IQ2S
                | GgmlType::IQ1S
                | GgmlType::IQ1M
                | GgmlType::TQ1_0 => group[row * block.len()..][..block.len()].copy_from_slice(block),
            }
        }
    }
}

/// Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL: the file's nibbles are already those of the tile.
fn pack_small(ty: GgmlType, group: &mut [u8], row: usize, block: &[u8]) {
    let n_scales = if matches!(ty, GgmlType::Q4_1 | GgmlType::Q5_1) { 2 } else { 1 };
    for (i, scale) in block[..2 * n_scales].chunks_exact(2).enumerate() {
        put_f16(group, 2 * TILE_ROWS * i, row, scale);
    }
    let (mut at, mut from) = (2 * TILE_ROWS * n_scales, 2 * n_scales);
    if matches!(ty, GgmlType::Q5_0 | GgmlType::Q5_1) {
        let bits = &block[from..from + 4];
        let high = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
        put_high_bits(&mut group[at..], row, high);
        (at, from) = (at + 4 * TILE_ROWS, from + 4);
    }
    put_nibbles(&mut group[at..], row, &block[from..]);
}

fn pack_q2k(group: &mut [u8], row: usize, block: &[u8]) {
    let layout = Layout::of(GgmlType::Q2K);
    put_f16(group, 0, row, &block[80..82]);
    put_f16(group, 2 * TILE_ROWS, row, &block[82..]);
    for (s, sub) in group[layout.head..].chunks_exact_mut(layout.sub).enumerate() {
        (sub[row], sub[TILE_ROWS + row]) = (block[2 * s], block[2 * s + 1]);
        put_crumbs(&mut sub[2 * TILE_ROWS..], row, crumbs(&block[16..80], s));
    }
}

fn pack_q3k(group: &mut [u8], row: usize, block: &[u8]) {
    let layout = Layout::of(GgmlType::Q3K);
    let (hmask, qs, scales, d) = (&block[..32], &block[32..96], &block[96..108], &block[108..]);
    put_f16(group, 0, row, d);
    for (s, sub) in group[layout.head..].chunks_exact_mut(layout.sub).enumerate() {
        sub[row] = scale_q3k(scales, 2 * s).cast_unsigned();
        sub[TILE_ROWS + row] = scale_q3k(scales, 2 * s + 1).cast_unsigned();
        let bits = |i: usize| u32::from(hmask[i] >> s & 1) << i;
        put_high_bits(&mut sub[2 * TILE_ROWS..], row, (0..32).map(bits).sum());
        put_crumbs(&mut sub[6 * TILE_ROWS..], row, crumbs(qs, s));
    }
}

fn pack_q45k(ty: GgmlType, group: &mut [u8], row: usize, block: &[u8]) {
    let layout = Layout::of(ty);
    let has_fifth_bit = ty == GgmlType::Q5K;
    put_f16(group, 0, row, &block[..2]);
    put_f16(group, 2 * TILE_ROWS, row, &block[2..4]);
    let qs = &block[if has_fifth_bit { 48 } else { 16 }..];
    for (s, sub) in group[layout.head..].chunks_exact_mut(layout.sub).enumerate() {
        (sub[row], sub[TILE_ROWS + row]) = scale_and_min_k(&block[4..16], s);
        let mut at = 2 * TILE_ROWS;
        if has_fifth_bit {
            let bits = |i: usize| u32::from(block[16 + i] >> s & 1) << i;
            put_high_bits(&mut sub[at..], row, (0..32).map(bits).sum());
            at += 4 * TILE_ROWS;
        }
        put_nibbles(&mut sub[at..], row, &pair_nibbles(&qs[s / 2 * 32..][..32], s % 2 == 1));
    }
}

fn pack_q6k(group: &mut [u8], row: usize, block: &[u8]) {
    let layout = Layout::of(GgmlType::Q6K);
    let (ql, qh, scales, d) = (&block[..128], &block[128..192], &block[192..208], &block[208..]);
    put_f16(group, 0, row, d);
    for (s, sub) in group[layout.head..].chunks_exact_mut(layout.sub).enumerate() {
        (sub[row], sub[TILE_ROWS + row]) = (scales[2 * s], scales[2 * s + 1]);
        let (half, quarter) = (s / 4, s % 4);
        put_crumbs(&mut sub[2 * TILE_ROWS..], row, crumbs(qh, s));
        let nibbles = pair_nibbles(&ql[half * 64 + quarter % 2 * 32..][..32], quarter >= 2);
        put_nibbles(&mut sub[10 * TILE_ROWS..], row, &nibbles);
    }
}

fn pack_iq4xs(group: &mut [u8], row: usize, block: &[u8]) {
    let layout = Layout::of(GgmlType::IQ4XS);
    put_f16(group, 0, row, &block[..2]);
    for (s, sub) in group[layout.head..].chunks_exact_mut(layout.sub).enumerate() {
        sub[row] = scale_iq4xs(block, s).cast_unsigned();
        put_nibbles(&mut sub[TILE_ROWS..], row, &block[8 + 16 * s..][..16]);
    }
}

/// The file pairs the nibbles of elements i and 8 + i of 16.
fn pack_nvfp4(group: &mut [u8], row: usize, block: &[u8]) {
    let layout = Layout::of(GgmlType::NVFP4);
    for (s, sub) in group.chunks_exact_mut(layout.sub).enumerate() {
        for half in 0..2 {
            // NaN counts as zero, and there is no sign.
            let scale = if block[2 * s + half] == 0x7f { 0 } else { block[2 * s + half] & 0x7f };
            sub[half * TILE_ROWS + row] = scale;
        }
        let (low, high) = block[4 + 16 * s..][..16].split_at(8);
        let nibbles: [u8; 16] = std::array::from_fn(|i| {
            if i < 8 { low[i] & 15 | high[i] << 4 } else { low[i - 8] >> 4 | high[i - 8] & 0xf0 }
        });
        put_nibbles(&mut sub[2 * TILE_ROWS..], row, &nibbles);
    }
}

/// The 2 bits of each of the s-th 32 elements of a block, of which quarter t of a half has bits 2t of the half's 32
/// bytes.
fn crumbs(qs: &[u8], s: usize) -> [u8; 32] {
    std::array::from_fn(|i| qs[s / 4 * 32 + i] >> (2 * (s % 4)) & 3)
}

/// The low or the high nibbles of 32 bytes, as 16 bytes of which element i < 16 is the low nibble of byte i.
fn pair_nibbles(bytes: &[u8], high: bool) -> [u8; 16] {
    std::array::from_fn(|i| {
        if high { bytes[i] >> 4 | bytes[i + 16] & 0xf0 } else { bytes[i] & 15 | bytes[i + 16] << 4 }
    })
}

fn put_f16(group: &mut [u8], at: usize, row: usize, f16: &[u8]) {
    group[at + 2 * row..][..2].copy_from_slice(f16);
}

/// Four bytes of a row into word `word`: the lines of a word are those of rows 0..16 and 16..32.
fn put_word(lines: &mut [u8], word: usize, row: usize, bytes: [u8; 4]) {
    lines[word * 4 * TILE_ROWS + 4 * row..][..4].copy_from_slice(&bytes);
}

fn put_nibbles(lines: &mut [u8], row: usize, nibbles: &[u8]) {
    for (j, bytes) in nibbles.chunks_exact(4).enumerate() {
        put_word(lines, j, row, [bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
}

/// Two bits of each column: those of words 4p..4p + 4 go to line p.
fn put_crumbs(lines: &mut [u8], row: usize, crumbs: [u8; 32]) {
    for (i, bits) in crumbs.into_iter().enumerate() {
        let (word, plane) = (i / 4, i / 16);
        lines[plane * 4 * TILE_ROWS + 4 * row + i % 4] |= bits << (2 * (word % 4));
    }
}

/// Bit i of `high` belongs to column i = 4 word + byte; it goes to bit `word` of that byte.
fn put_high_bits(lines: &mut [u8], row: usize, high: u32) {
    let byte = |i: usize| (0..8).map(|word| ((high >> (4 * word + i) & 1) as u8) << word).sum();
    put_word(lines, 0, row, std::array::from_fn(byte));
}
