//! Writing the keys and values of a step into the pool.
#![allow(unsafe_code)]

use super::quantise::{hadamard, round_q4, round_q8, saturate};
use super::{AttentionRow, GROUP, KvArena, KvFormat, KvLayer, MAX_HEAD_DIM, TILE, is_rotated};
use crate::isa::Isa;
use crate::ops::heads::HeadPrep;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::Threads;

/// Vectors below which a second thread costs more than it gives.
const MIN_SPLIT: usize = 64;

/// The keys of a step and what is done to each before it is stored.
#[derive(Clone, Copy)]
pub struct KeyInput<'a> {
    /// The keys, `[n_tokens, n_kv_heads, k_dim]`, row after row.
    pub k: &'a [f32],
    /// Per-head norm and rotary embedding, in this order; either may be absent.
    pub prep: HeadPrep<'a>,
}

impl<'a> From<&'a [f32]> for KeyInput<'a> {
    fn from(k: &'a [f32]) -> Self {
        KeyInput { k, prep: HeadPrep::default() }
    }
}

/// Stores the keys and values (`[n_tokens, n_kv_heads, v_dim]`) of `rows` in their blocks, in one pass. There are no
/// values to give where they are in the keys.
///
/// A finite value beyond the range of half precision is stored as the largest; one that is not finite makes
/// every attention output that sees it NaN. What a token stores depends on its own vectors only.
///
/// # Panics
/// When the layer does not fit the arena, a row's table does not cover its tokens or names a block that does
/// not exist, or a slice has another length than the rows ask for.
pub fn store_kv<'a>(
    threads: &Threads,
    isa: Isa,
    arena: &mut KvArena,
    layer: &KvLayer,
    rows: &[AttentionRow<'_>],
    keys: impl Into<KeyInput<'a>>,
    v: &[f32],
) {
    let KeyInput { k, prep } = keys.into();
    layer.check(arena);
    rows.iter().for_each(|row| row.check(layer, arena, row.start));
    let n_tokens: usize = rows.iter().map(|row| row.n_tokens).sum();
    assert_eq!(k.len(), n_tokens * layer.n_kv_heads * layer.k_dim, "length of the keys");
    let v_width = if layer.v_offset.is_some() { layer.n_kv_heads * layer.v_dim } else { 0 };
    assert_eq!(v.len(), n_tokens * v_width, "length of the values");
    prep.check(n_tokens, layer.k_dim);
    let job = StoreJob { arena, layer, rows, k, v, prep };
    if n_tokens * layer.n_kv_heads < MIN_SPLIT {
        // SAFETY: everything is checked above and one thread writes.
        unsafe { store_share(isa, &job, 0, 1) };
    } else {
        let n = threads.n();
        // SAFETY: checked above; a block is written by the worker of its id only, and `arena` is borrowed
        // exclusively by this call.
        threads.run(&|worker| unsafe { store_share(isa, &job, worker, n) });
    }
}

struct StoreJob<'a> {
    arena: &'a KvArena,
    layer: &'a KvLayer,
    rows: &'a [AttentionRow<'a>],
    k: &'a [f32],
    v: &'a [f32],
    prep: HeadPrep<'a>,
}

simd_dispatch! {
    /// Stores the tokens whose blocks' ids leave the remainder `share` by `n_shares`.
    ///
    /// # Safety
    /// The job is checked, and no other thread reads or writes these blocks.
    unsafe fn store_share(job: &StoreJob<'_>, share: usize, n_shares: usize) = store_share_on
}

/// What [`store_share`] does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The promises of [`store_share`].
#[inline(always)]
unsafe fn store_share_on<S: Simd>(job: &StoreJob<'_>, share: usize, n_shares: usize) {
    let layer = job.layer;
    let (k_dim, v_dim, bt) = (layer.k_dim, layer.v_dim, layer.block_tokens);
    let v_rotated = is_rotated(layer.dtype, v_dim);
    let mut buffers = [[0f32; MAX_HEAD_DIM]; 2];
    let [key, value] = &mut buffers;
    let (key, value) = (&mut key[..k_dim], &mut value[..v_dim]);
    let mut n_before = 0;
    for row in job.rows {
        for t in 0..row.n_tokens {
            let (position, token) = (row.start + t, n_before + t);
            let block = row.block_of(position, bt);
            if block % n_shares != share {
                continue;
            }
            let (start, slot) = (job.arena.block_ptr(block), position % bt);
            for head in 0..layer.n_kv_heads {
                let vector = token * layer.n_kv_heads + head;
                key.copy_from_slice(&job.k[vector * k_dim..][..k_dim]);
                // SAFETY: `KvLayer::check` holds that these heads' parts lie inside the block and apart; the
                // caller holds that nobody else uses the block.
                unsafe {
                    job.prep.apply::<S>(token, key);
                    layer.rotate_key(key);
                    let part = start.add(layer.k_offset + head * layer.k_head_bytes());
                    store_key::<S>(layer.dtype, part, bt, slot, key);
                }
                let Some(v_offset) = layer.v_offset else { continue };
                value.copy_from_slice(&job.v[vector * v_dim..][..v_dim]);
                if v_rotated {
                    hadamard(value);
                }
                // SAFETY: as for the key.
                unsafe {
                    let part = start.add(v_offset + head * layer.v_head_bytes());
                    store_value::<S>(layer.dtype, part, bt, slot, value);
                }
            }
        }
        n_before += row.n_tokens;
    }
}

/// Writes one key into its tile.
///
/// # Safety
/// `part` is one head's K of a block of `block_tokens`, `slot` below that, and the instruction set of `S`.
#[inline(always)]
unsafe fn store_key<S: Simd>(format: KvFormat, part: *mut u8, block_tokens: usize, slot: usize, key: &[f32]) {
    let (dim, format) = (key.len(), format.of_keys());
    let (tile, lane) = (slot / TILE, slot % TILE);
    // SAFETY: tile, dimension and lane are inside the head's part by the layout in `kv`.
    unsafe {
        let scales = part.add(block_tokens * format.data_bytes(dim)).cast::<u16>();
        let scale_at = |group: usize| scales.add((tile * format.n_scales(dim) + group) * TILE + lane);
        match format {
            KvFormat::F16 => {
                let mut half = [0u16; MAX_HEAD_DIM];
                to_half::<S>(key, half.as_mut_ptr());
                let out = part.cast::<u16>().add(tile * dim * TILE + lane);
                for (d, bits) in half[..dim].iter().enumerate() {
                    out.add(d * TILE).write_unaligned(*bits);
                }
            }
            KvFormat::Q8 | KvFormat::Q4 => {
                let out = part.cast::<i8>().add(tile * dim * TILE + lane);
                for (g, group) in key.chunks(GROUP).enumerate() {
                    let mut q = [0i8; GROUP];
                    scale_at(g).write_unaligned(round_q8(&padded(group), &mut q));
                    for (i, q) in q[..group.len()].iter().enumerate() {
                        out.add((g * GROUP + i) * TILE).write(*q);
                    }
                }
            }
        }
    }
}

/// Writes one value vector.
///
/// # Safety
/// `part` is one head's V of a block of `block_tokens`, `slot` below that, and the instruction set of `S`.
#[inline(always)]
unsafe fn store_value<S: Simd>(
    format: KvFormat,
    part: *mut u8,
    block_tokens: usize,
    slot: usize,
    value: &[f32],
) {
    let dim = value.len();
    // SAFETY: the slot's data and scales are inside the head's part by the layout in `kv`.
    unsafe {
        let out = part.add(slot * format.data_bytes(dim));
        let scales =
            part.add(block_tokens * format.data_bytes(dim)).cast::<u16>().add(slot * format.n_scales(dim));
        match format {
            KvFormat::F16 => to_half::<S>(value, out.cast()),
            KvFormat::Q8 => {
                for (g, group) in value.chunks(GROUP).enumerate() {
                    let mut q = [0i8; GROUP];
                    scales.add(g).write_unaligned(round_q8(&padded(group), &mut q));
                    std::ptr::copy_nonoverlapping(q.as_ptr().cast(), out.add(g * GROUP), group.len());
                }
            }
            KvFormat::Q4 => {
                for (g, group) in value.chunks(GROUP).enumerate() {
                    let mut q = [0u8; GROUP];
                    scales.add(g).write_unaligned(round_q4(&padded(group), &mut q));
                    for i in 0..group.len().div_ceil(2) {
                        out.add(g * GROUP / 2 + i).write(q[2 * i] | q[2 * i + 1] << 4);
                    }
                }
            }
        }
    }
}

/// A group with zeros for the values that it lacks.
#[inline(always)]
fn padded(group: &[f32]) -> [f32; GROUP] {
    let mut whole = [0f32; GROUP];
    whole[..group.len()].copy_from_slice(group);
    whole
}

/// Converts to half precision, saturating.
///
/// # Safety
/// `out` is valid for `x.len()` values; the instruction set of `S`.
#[inline(always)]
unsafe fn to_half<S: Simd>(x: &[f32], out: *mut u16) {
    let mut clamped = [0f32; LANES];
    for (i, chunk) in x.chunks(LANES).enumerate() {
        for (c, x) in clamped.iter_mut().zip(chunk) {
            *c = saturate(*x);
        }
        // SAFETY: a whole chunk is inside `out`; a shorter one goes through a buffer.
        unsafe {
            let v = S::load(clamped.as_ptr());
            if chunk.len() == LANES {
                S::store_f16(out.add(i * LANES), v);
            } else {
                let mut tail = [0u16; LANES];
                S::store_f16(tail.as_mut_ptr(), v);
                std::ptr::copy_nonoverlapping(tail.as_ptr(), out.add(i * LANES), chunk.len());
            }
        }
    }
}
