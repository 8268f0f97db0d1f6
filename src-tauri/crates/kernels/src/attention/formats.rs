//! Reading tiles of 16 keys or values in the pool's formats, or as f32 converted before.
#![allow(unsafe_code)]

use crate::kv::{GROUP, KvFormat, TILE};
use crate::simd::{LANES, Simd};
use half::f16;

/// One head's K or V of 16 tokens.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    data: *const u8,
    scales: *const u16,
}

impl Tile {
    pub(super) const NONE: Tile = Tile { data: std::ptr::null(), scales: std::ptr::null() };

    /// The tile that holds `slot` of a head's part of a block.
    ///
    /// # Safety
    /// `part` is one head's K or V, of `dim` values a token, in a block of `block_tokens` above `slot`.
    #[inline(always)]
    pub(super) unsafe fn of(
        format: KvFormat,
        part: *const u8,
        block_tokens: usize,
        slot: usize,
        dim: usize,
    ) -> Tile {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe {
            let first = slot / TILE * TILE;
            let data = part.add(first * format.data_bytes(dim));
            let scales = part.add(block_tokens * format.data_bytes(dim)).cast::<u16>();
            Tile { data, scales: scales.add(first * format.n_scales(dim)) }
        }
    }

    /// The address `offset` bytes into the tile's values, perhaps beyond them: for prefetching only.
    #[inline(always)]
    pub(super) fn address(self, offset: usize) -> *const u8 {
        self.data.wrapping_add(offset)
    }

    /// The address `n` scales behind the first, perhaps beyond them: for prefetching only.
    #[inline(always)]
    pub(super) fn scale_address(self, n: usize) -> *const u8 {
        self.scales.wrapping_add(n).cast()
    }

    /// A tile that was converted to f32: keys as `[dim][16]`, values as `[16][dim]`.
    pub(super) fn converted(data: *const f32) -> Tile {
        Tile { data: data.cast(), scales: std::ptr::null() }
    }
}

/// How a tile is read; `dim` is a multiple of 16.
///
/// # Safety
/// Every function requires the instruction set of `S`, a tile of this format, and indices inside it.
#[expect(clippy::missing_safety_doc, reason = "said once, for all functions")]
pub(super) trait Format<S: Simd>: Copy {
    /// Whether keys must be multiplied by [`Format::key_scale`].
    const SCALED: bool;
    /// Whether it is f32 in a buffer that holds whole groups of rows and tiles.
    const CONVERTED: bool = false;
    /// Bytes of 16 values of keys, and of value vectors.
    const KEY_LANES_BYTES: usize;
    const LANES_BYTES: usize;
    /// Values `d` and `d + 1` of 16 keys, without their scale; `d` is even.
    unsafe fn key_pair(tile: Tile, d: usize) -> (S::V, S::V);
    /// The scales of a group of 32 values of 16 keys.
    unsafe fn key_scale(tile: Tile, group: usize, dim: usize) -> S::V;
    /// Values `16 c..16 c + 16` of the value vector of one token.
    unsafe fn value(tile: Tile, token: usize, c: usize, dim: usize) -> S::V;
}

/// The scale of values `16 c..16 c + 16` of one token, in every lane.
///
/// # Safety
/// As for [`Format`].
#[inline(always)]
unsafe fn scale_of_value<S: Simd>(tile: Tile, token: usize, c: usize, dim: usize) -> S::V {
    // SAFETY: the caller's promises: indices inside a tile of this format.
    unsafe { S::splat_f16(tile.scales.add(token * dim.div_ceil(GROUP) + c * LANES / GROUP)) }
}

/// Converted before.
#[derive(Clone, Copy)]
pub(super) struct F32;

impl<S: Simd> Format<S> for F32 {
    const KEY_LANES_BYTES: usize = 64;
    const LANES_BYTES: usize = 64;
    const SCALED: bool = false;
    const CONVERTED: bool = true;
    #[inline(always)]
    unsafe fn key_pair(tile: Tile, d: usize) -> (S::V, S::V) {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe {
            let p = tile.data.cast::<f32>().add(d * TILE);
            (S::load(p), S::load(p.add(TILE)))
        }
    }
    #[inline(always)]
    unsafe fn key_scale(_: Tile, _: usize, _: usize) -> S::V {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe { S::splat(1.0) }
    }
    #[inline(always)]
    unsafe fn value(tile: Tile, token: usize, c: usize, dim: usize) -> S::V {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe { S::load(tile.data.cast::<f32>().add(token * dim + c * LANES)) }
    }
}

/// [`KvFormat::F16`].
#[derive(Clone, Copy)]
pub(super) struct F16;

impl<S: Simd> Format<S> for F16 {
    const KEY_LANES_BYTES: usize = 32;
    const LANES_BYTES: usize = 32;
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn key_pair(tile: Tile, d: usize) -> (S::V, S::V) {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe {
            let p = tile.data.cast::<u16>().add(d * TILE);
            (S::load_f16(p), S::load_f16(p.add(TILE)))
        }
    }
    #[inline(always)]
    unsafe fn key_scale(_: Tile, _: usize, _: usize) -> S::V {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe { S::splat(1.0) }
    }
    #[inline(always)]
    unsafe fn value(tile: Tile, token: usize, c: usize, dim: usize) -> S::V {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe { S::load_f16(tile.data.cast::<u16>().add(token * dim + c * LANES)) }
    }
}

/// [`KvFormat::Q8`].
#[derive(Clone, Copy)]
pub(super) struct Q8;

impl<S: Simd> Format<S> for Q8 {
    const KEY_LANES_BYTES: usize = 16;
    const LANES_BYTES: usize = 16;
    const SCALED: bool = true;
    #[inline(always)]
    unsafe fn key_pair(tile: Tile, d: usize) -> (S::V, S::V) {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe {
            let p = tile.data.cast::<i8>().add(d * TILE);
            (S::load_i8(p), S::load_i8(p.add(TILE)))
        }
    }
    #[inline(always)]
    unsafe fn key_scale(tile: Tile, group: usize, _dim: usize) -> S::V {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe { S::load_f16(tile.scales.add(group * TILE)) }
    }
    #[inline(always)]
    unsafe fn value(tile: Tile, token: usize, c: usize, dim: usize) -> S::V {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe {
            let q = S::load_i8(tile.data.cast::<i8>().add(token * dim + c * LANES));
            S::mul(q, scale_of_value::<S>(tile, token, c, dim))
        }
    }
}

/// [`KvFormat::Q4`].
#[derive(Clone, Copy)]
pub(super) struct Q4;

impl<S: Simd> Format<S> for Q4 {
    const KEY_LANES_BYTES: usize = 16;
    const LANES_BYTES: usize = 8;
    const SCALED: bool = true;
    #[inline(always)]
    unsafe fn key_pair(tile: Tile, d: usize) -> (S::V, S::V) {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe { <Q8 as Format<S>>::key_pair(tile, d) }
    }
    #[inline(always)]
    unsafe fn key_scale(tile: Tile, group: usize, dim: usize) -> S::V {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe { <Q8 as Format<S>>::key_scale(tile, group, dim) }
    }
    #[inline(always)]
    unsafe fn value(tile: Tile, token: usize, c: usize, dim: usize) -> S::V {
        // SAFETY: the caller's promises: indices inside a tile of this format.
        unsafe {
            let q = S::load_nibbles(tile.data.add(token * dim / 2 + c * LANES / 2));
            S::mul(q, scale_of_value::<S>(tile, token, c, dim))
        }
    }
}

/// Converts a tile of keys to f32.
///
/// # Safety
/// As for [`Format`]; `out` is valid for `16 · dim` values.
#[inline(always)]
pub(super) unsafe fn convert_keys<S: Simd, F: Format<S>>(tile: Tile, dim: usize, out: *mut f32) {
    // SAFETY: the caller's promises: indices inside a tile of this format.
    unsafe {
        for group in 0..dim.div_ceil(GROUP) {
            let scale = F::key_scale(tile, group, dim);
            for d in (group * GROUP..dim.min((group + 1) * GROUP)).step_by(2) {
                let (mut a, mut b) = F::key_pair(tile, d);
                if F::SCALED {
                    (a, b) = (S::mul(a, scale), S::mul(b, scale));
                }
                S::store(out.add(d * TILE), a);
                S::store(out.add((d + 1) * TILE), b);
            }
        }
    }
}

/// Converts a tile of values to f32.
///
/// # Safety
/// As for [`Format`]; `out` is valid for `16 · dim` values.
#[inline(always)]
pub(super) unsafe fn convert_values<S: Simd, F: Format<S>>(tile: Tile, dim: usize, out: *mut f32) {
    // SAFETY: the caller's promises: indices inside a tile of this format.
    unsafe {
        for token in 0..TILE {
            for c in 0..dim / LANES {
                S::store(out.add(token * dim + c * LANES), F::value(tile, token, c, dim));
            }
        }
    }
}

/// The first `dim` values of converted keys, `[dim][16]`, as a converted tile of values, `[16][dim]`; `dim` is a multiple
/// of 16.
///
/// # Safety
/// The instruction set of `S`; `keys` and `out` are valid for `16 · dim` values.
#[inline(always)]
pub(super) unsafe fn values_of_keys<S: Simd>(keys: *const f32, dim: usize, out: *mut f32) {
    // SAFETY: the caller's promises: the blocks lie inside both tiles.
    unsafe {
        for d in (0..dim).step_by(LANES) {
            S::transpose(keys.add(d * TILE), out.add(d), dim);
        }
    }
}

/// Converts a tile of keys of any dimension, padded with zeros to `padded` dimensions.
///
/// # Safety
/// The tile holds keys of `dim` values in `format`; `out` is valid for `16 · padded` values.
pub(super) unsafe fn convert_odd_keys(
    format: KvFormat,
    tile: Tile,
    dim: usize,
    padded: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promises: indices inside a tile of this format.
    unsafe {
        for d in 0..padded {
            for token in 0..TILE {
                let at = d * TILE + token;
                let scale = || {
                    f16::from_bits(tile.scales.add(d / GROUP * TILE + token).read_unaligned()).to_f32_const()
                };
                let x = match format {
                    _ if d >= dim => 0.0,
                    KvFormat::F16 => {
                        f16::from_bits(tile.data.cast::<u16>().add(at).read_unaligned()).to_f32_const()
                    }
                    KvFormat::Q8 | KvFormat::Q4 => f32::from(tile.data.cast::<i8>().add(at).read()) * scale(),
                };
                out.add(at).write(x);
            }
        }
    }
}

/// Converts a tile of values of any dimension, padded with zeros to `padded` dimensions.
///
/// # Safety
/// The tile holds values of `dim` values in `format`; `out` is valid for `16 · padded` values.
pub(super) unsafe fn convert_odd_values(
    format: KvFormat,
    tile: Tile,
    dim: usize,
    padded: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promises: indices inside a tile of this format.
    unsafe {
        for token in 0..TILE {
            let data = tile.data.add(token * format.data_bytes(dim));
            let scales = tile.scales.add(token * format.n_scales(dim));
            for d in 0..padded {
                let scale = || f16::from_bits(scales.add(d / GROUP).read_unaligned()).to_f32_const();
                let x = match format {
                    _ if d >= dim => 0.0,
                    KvFormat::F16 => {
                        f16::from_bits(data.cast::<u16>().add(d).read_unaligned()).to_f32_const()
                    }
                    KvFormat::Q8 => f32::from(data.cast::<i8>().add(d).read()) * scale(),
                    KvFormat::Q4 => nibble(data.add(d / 2).read(), d) * scale(),
                };
                out.add(token * padded + d).write(x);
            }
        }
    }
}

fn nibble(byte: u8, d: usize) -> f32 {
    f32::from((byte >> (4 * (d % 2))) & 15) - 8.0
}
