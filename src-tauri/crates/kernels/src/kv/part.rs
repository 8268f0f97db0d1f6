//! Where a block has the keys and values of its first tokens: all that a block which is not full is worth keeping of.

use std::ops::Range;

use super::{KvLayer, TILE};

/// The bytes of a block that hold what a layer knows of its first `n_tokens` tokens, in ascending order.
///
/// # Panics
/// When a block has fewer tokens.
pub fn ranges_of(layer: &KvLayer, n_tokens: usize) -> Vec<Range<usize>> {
    assert!(n_tokens <= layer.block_tokens, "{n_tokens} tokens of a block of {}", layer.block_tokens);
    let mut found = Ranges { of_block: layer.block_tokens, n_tokens, ranges: Vec::new() };
    for head in 0..layer.n_kv_heads {
        let keys = layer.dtype.of_keys();
        let start = layer.k_offset + head * layer.k_head_bytes();
        let scales = found.tiles(start, layer.k_dim, keys.data_bytes(layer.k_dim) / layer.k_dim);
        found.tiles(scales, keys.n_scales(layer.k_dim), 2);
    }
    if let Some(v_offset) = layer.v_offset {
        for head in 0..layer.n_kv_heads {
            let start = v_offset + head * layer.v_head_bytes();
            let scales = found.vectors(start, layer.dtype.data_bytes(layer.v_dim));
            found.vectors(scales, 2 * layer.dtype.n_scales(layer.v_dim));
        }
    }
    found.ranges.sort_unstable_by_key(|range| range.start);
    found.ranges
}

struct Ranges {
    of_block: usize,
    n_tokens: usize,
    ranges: Vec<Range<usize>>,
}

impl Ranges {
    /// Of `[token / 16][dim][16]` values of `value_bytes`. Returns where they end.
    fn tiles(&mut self, start: usize, dim: usize, value_bytes: usize) -> usize {
        let line = TILE * value_bytes;
        let n_whole = self.n_tokens / TILE * dim * line;
        self.add(start, n_whole);
        for line_idx in 0..dim {
            self.add(start + n_whole + line_idx * line, self.n_tokens % TILE * value_bytes);
        }
        start + self.of_block * dim * value_bytes
    }

    /// Of `[token]` vectors. Returns where they end.
    fn vectors(&mut self, start: usize, vector_bytes: usize) -> usize {
        self.add(start, self.n_tokens * vector_bytes);
        start + self.of_block * vector_bytes
    }

    fn add(&mut self, start: usize, n_bytes: usize) {
        if n_bytes > 0 {
            self.ranges.push(start..start + n_bytes);
        }
    }
}

/// Copy what is in `ranges` of `block` to `out`, one after the other.
///
/// # Panics
/// When `out` has another length than all of them.
pub fn gather(block: &[u8], ranges: &[Range<usize>], out: &mut [u8]) {
    let mut at = 0;
    for range in ranges {
        out[at..at + range.len()].copy_from_slice(&block[range.clone()]);
        at += range.len();
    }
    assert_eq!(at, out.len(), "bytes of a part");
}

/// Undo [`gather`]; what is in no range stays as it is.
///
/// # Panics
/// When `bytes` has another length than all ranges.
pub fn scatter(bytes: &[u8], ranges: &[Range<usize>], block: &mut [u8]) {
    let mut at = 0;
    for range in ranges {
        block[range.clone()].copy_from_slice(&bytes[at..at + range.len()]);
        at += range.len();
    }
    assert_eq!(at, bytes.len(), "bytes of a part");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::kv::{AttentionRow, KvArena, KvFormat, store_kv};
    use crate::threads::Threads;

    fn layer(
        dtype: KvFormat,
        (n_kv_heads, k_dim, v_dim, in_keys): (usize, usize, usize, bool),
        block_tokens: usize,
    ) -> KvLayer {
        let mut layer = KvLayer {
            n_kv_heads,
            k_dim,
            v_dim,
            block_tokens,
            block_bytes: 0,
            k_offset: 64,
            v_offset: None,
            dtype,
        };
        let v_offset = (layer.k_offset + layer.k_bytes()).next_multiple_of(64);
        layer.v_offset = (!in_keys).then_some(v_offset);
        layer.block_bytes = (v_offset + layer.v_bytes()).next_multiple_of(64) + 64;
        layer
    }

    /// What storing changes in a block of `fill`.
    fn stored(layer: &KvLayer, n_tokens: usize, fill: u8) -> Vec<u8> {
        let mut arena = KvArena::new(1, layer.block_bytes).unwrap();
        arena.block_mut(0).fill(fill);
        let value = |i: usize| ((i * 37 + 11) % 101) as f32 / 7.0 - 6.0;
        let k: Vec<f32> = (0..n_tokens * layer.n_kv_heads * layer.k_dim).map(value).collect();
        let n_values = if layer.v_offset.is_some() { layer.n_kv_heads * layer.v_dim } else { 0 };
        let v: Vec<f32> = (0..n_tokens * n_values).map(value).collect();
        let row = AttentionRow { blocks: &[0], first_block: 0, start: 0, n_tokens };
        store_kv(&Threads::new(1), Isa::detect(), &mut arena, layer, &[row], &k[..], &v);
        arena.block(0).to_vec()
    }

    #[test]
    fn a_part_is_exactly_what_its_tokens_store_in_every_format() {
        for dtype in [KvFormat::F16, KvFormat::Q8, KvFormat::Q4] {
            for shape in [
                (3, 64, 64, false),
                (1, 256, 256, false),
                (2, 32, 96, false),
                (1, 33, 7, false),
                (1, 576, 512, true),
                (2, 48, 32, true),
            ] {
                for block_tokens in [16, 32, 128] {
                    let layer = layer(dtype, shape, block_tokens);
                    for n_tokens in [0, 1, 2, 15, 16, 17, 31, 32, 127, 128] {
                        if n_tokens > block_tokens {
                            continue;
                        }
                        let what = format!("{dtype:?} {shape:?} {n_tokens} of {block_tokens}");
                        let ranges = ranges_of(&layer, n_tokens);
                        let n_bytes: usize = ranges.iter().map(Range::len).sum();
                        let value_bytes = if shape.3 { 0 } else { dtype.value_bytes(layer.v_dim) };
                        let vectors = dtype.key_bytes(layer.k_dim) + value_bytes;
                        assert_eq!(n_bytes, n_tokens * layer.n_kv_heads * vectors, "{what}: no byte more");
                        assert!(ranges.windows(2).all(|two| two[0].end <= two[1].start), "{what}");
                        let whole = stored(&layer, n_tokens, 0xa5);
                        let mut part = vec![0; n_bytes];
                        gather(&whole, &ranges, &mut part);
                        let mut again = vec![0xa5; layer.block_bytes];
                        scatter(&part, &ranges, &mut again);
                        assert!(again == whole, "{what}: all that was stored comes back");
                    }
                }
            }
        }
    }
}
