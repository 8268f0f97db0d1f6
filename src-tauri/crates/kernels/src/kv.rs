//! Keys and values in paged memory: the formats, where each value lies in a block, and storing them.
//!
//! ```text
//! block    … │ K of this layer              │ V of this layer              │ …     k_offset, v_offset
//! K, V       │ head 0 │ head 1 │ …          │ head 0 │ head 1 │ …          │       block_tokens × bytes of a vector
//!
//! K of a head: tiles of 16 tokens, dimension by dimension, so that one register holds one dimension of 16 keys
//!   f16   [token / 16][dim][16] f16
//!   q8    [token / 16][dim][16] i8             then scales [token / 16][dim / 32][16] f16
//!   q4    as q8
//!
//! V of a head: token by token
//!   f16   [token][dim] f16
//!   q8    [token][dim] i8                      then scales [token][dim / 32] f16
//!   q4    [token][dim / 2] u8                  then scales [token][dim / 32] f16
//!            low nibble: even dim, high nibble: odd dim, both offset by 8
//! ```
//!
//! A value is its integer times its scale, which is exact in f32, so every instruction set reads the same.
//! `dim / 2` and `dim / 32` are rounded up. Copying a block's bytes copies all there is.
//!
//! Where values are the first of each key (latent attention), there is no V: what K has serves as both.
//!
//! In q8 and q4 a vector is rotated before it is rounded: a Hadamard matrix spreads its few large channels over all
//! channels. Queries are rotated alike, so that scores stay what they are, and the weighted sums of values are rotated
//! back by the same matrix, which is its own inverse. Callers see nothing of it. In q4 keys keep 8 bits: in 4, no
//! protection that was tried kept the error of scores small enough. A key that has values in it is rotated in two parts,
//! these and the rest, so that the sums of values can be rotated back.

pub use arena::{ArenaError, KvArena};
pub use quantise::hadamard;
pub use store::{KeyInput, store_kv};

pub mod arena;
pub mod part;
pub(crate) mod quantise;
pub(crate) mod store;

/// Tokens in a K tile.
pub(crate) const TILE: usize = 16;

/// Values that share a scale in the quantised formats.
pub(crate) const GROUP: usize = 32;

/// The widest head that the kernels take.
pub const MAX_HEAD_DIM: usize = 1024;

/// How K and V are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// Half precision.
    F16,
    /// 8-bit integers with one f16 scale for every 32 values of a head's vector, rotated first.
    Q8,
    /// Values as 4-bit integers with one f16 scale for every 32 values of a head's vector, rotated first; keys as in
    /// [`KvFormat::Q8`].
    Q4,
}

impl KvFormat {
    /// Bytes of one head's key of `dim` values.
    pub fn key_bytes(self, dim: usize) -> usize {
        self.of_keys().value_bytes(dim)
    }

    /// Bytes of one head's value vector of `dim` values.
    pub fn value_bytes(self, dim: usize) -> usize {
        self.data_bytes(dim) + self.n_scales(dim) * 2
    }

    /// The format whose value vectors have as many bytes and scales as this one's keys.
    pub(crate) fn of_keys(self) -> KvFormat {
        match self {
            KvFormat::F16 => KvFormat::F16,
            KvFormat::Q8 | KvFormat::Q4 => KvFormat::Q8,
        }
    }

    /// Bytes of a value vector without its scales.
    pub(crate) fn data_bytes(self, dim: usize) -> usize {
        match self {
            KvFormat::F16 => 2 * dim,
            KvFormat::Q8 => dim,
            KvFormat::Q4 => dim.div_ceil(2),
        }
    }

    /// Its scales.
    pub(crate) fn n_scales(self, dim: usize) -> usize {
        match self {
            KvFormat::F16 => 0,
            KvFormat::Q8 | KvFormat::Q4 => dim.div_ceil(GROUP),
        }
    }
}

/// Whether vectors of `dim` values are rotated in `format`.
pub(crate) fn is_rotated(format: KvFormat, dim: usize) -> bool {
    format != KvFormat::F16 && dim > 0 && rotation_size(dim) > 1
}

/// The largest power of two that divides `dim`.
pub(crate) fn rotation_size(dim: usize) -> usize {
    1 << dim.trailing_zeros()
}

/// Where and how one layer's K and V lie in the blocks of a [`KvArena`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLayer {
    /// KV heads.
    pub n_kv_heads: usize,
    /// Values in one head's key, at most [`MAX_HEAD_DIM`].
    pub k_dim: usize,
    /// Values in one head's value, at most [`MAX_HEAD_DIM`].
    pub v_dim: usize,
    /// Tokens a block holds: a power of two from 16 to 256.
    pub block_tokens: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Byte offset of this layer's K in a block, a multiple of 64.
    pub k_offset: usize,
    /// Byte offset of this layer's V in a block, a multiple of 64; none where the values are the first `v_dim` of each
    /// key, which are stored once and in the keys' format.
    pub v_offset: Option<usize>,
    /// How values are stored.
    pub dtype: KvFormat,
}

impl KvLayer {
    /// Bytes of this layer's K in a block.
    pub fn k_bytes(&self) -> usize {
        self.n_kv_heads * self.k_head_bytes()
    }

    /// Bytes of this layer's V in a block.
    pub fn v_bytes(&self) -> usize {
        if self.v_offset.is_some() { self.n_kv_heads * self.v_head_bytes() } else { 0 }
    }

    /// Rotates a key, or a query that is to meet these keys, as the format wants it.
    #[inline(always)]
    pub(crate) fn rotate_key(&self, key: &mut [f32]) {
        let n_first = if self.v_offset.is_some() { key.len() } else { self.v_dim };
        let (first, rest) = key.split_at_mut(n_first);
        for part in [first, rest] {
            if is_rotated(self.dtype, part.len()) {
                hadamard(part);
            }
        }
    }

    pub(crate) fn k_head_bytes(&self) -> usize {
        self.block_tokens * self.dtype.key_bytes(self.k_dim)
    }

    pub(crate) fn v_head_bytes(&self) -> usize {
        self.block_tokens * self.dtype.value_bytes(self.v_dim)
    }

    /// The safety of the kernels rests on this.
    pub(crate) fn check(&self, arena: &KvArena) {
        let bt = self.block_tokens;
        assert!(bt.is_power_of_two() && (16..=256).contains(&bt), "{bt} tokens in a block");
        assert!(self.n_kv_heads > 0, "a layer without KV heads");
        for dim in [self.k_dim, self.v_dim] {
            assert!((1..=MAX_HEAD_DIM).contains(&dim), "a head of {dim} values");
        }
        assert_eq!(self.block_bytes, arena.block_bytes(), "block bytes of layer and arena");
        let k = (self.k_offset, self.k_bytes());
        let v = self.v_offset.map(|offset| (offset, self.v_bytes()));
        for (offset, bytes) in std::iter::once(k).chain(v) {
            let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.block_bytes);
            assert!(
                offset % 64 == 0 && inside,
                "{bytes} bytes at {offset} in a block of {}",
                self.block_bytes
            );
        }
        match v {
            Some(v) => assert!(k.0 + k.1 <= v.0 || v.0 + v.1 <= k.0, "K at {k:?} overlaps V at {v:?}"),
            None => assert!(self.v_dim <= self.k_dim, "{} values in keys of {}", self.v_dim, self.k_dim),
        }
    }
}

/// A piece of one sequence in an operation: its tokens `start..start + n_tokens`.
///
/// The vectors of several rows are packed one row after the other. Position `p` lies in block
/// `blocks[p / block_tokens - first_block]`, slot `p % block_tokens`.
#[derive(Debug, Clone, Copy)]
pub struct AttentionRow<'a> {
    /// The sequence's blocks in this layer's group, in token order.
    pub blocks: &'a [u32],
    /// Index, in blocks from the sequence's start, of `blocks[0]`.
    pub first_block: usize,
    /// Absolute position of the first token.
    pub start: usize,
    /// Tokens in the piece.
    pub n_tokens: usize,
}

impl AttentionRow<'_> {
    /// Holds that positions `from..start + n_tokens` lie in blocks that exist.
    pub(crate) fn check(&self, layer: &KvLayer, arena: &KvArena, from: usize) {
        if self.n_tokens == 0 {
            return;
        }
        let end = self.start.checked_add(self.n_tokens).expect("positions are far below usize::MAX");
        let (first, last) = (from / layer.block_tokens, (end - 1) / layer.block_tokens);
        assert!(
            first >= self.first_block && last - self.first_block < self.blocks.len(),
            "positions {from}..{end} need blocks {first}..={last}; the table has {} from {}",
            self.blocks.len(),
            self.first_block
        );
        let used = &self.blocks[first - self.first_block..=last - self.first_block];
        if let Some(bad) = used.iter().find(|block| **block as usize >= arena.n_blocks()) {
            panic!("block {bad} of {}", arena.n_blocks());
        }
    }

    /// The block of position `p`.
    pub(crate) fn block_of(&self, p: usize, block_tokens: usize) -> usize {
        self.blocks[p / block_tokens - self.first_block] as usize
    }
}
