//! How a block's bytes are cut into layers.
//!
//! Layers with the same span are gathered into groups of one size, so that **every block of every group has the
//! same number of bytes** and one pool serves them all: memory that windows free goes to full layers, and back.
//!
//! ```text
//! Gemma 3 270M: 15 window layers, 3 full        a block of group 1, 32 tokens
//!   group 0   full     layers 5 11 17           ┌ layer 0 ─────┬ layer 1 ─────┬ layer 2 ─────┐
//!   group 1   window   layers 0 1 2             │  K    │  V   │  K    │  V   │  K    │  V   │
//!   group 2   window   layers 3 4 6             └──────────────┴──────────────┴──────────────┘
//!   …                                            within K or V: [n_kv_heads][block_tokens × dim]
//! ```

use crate::cache_spec::{AttentionSpan, KvDtype, LayerCache, ModelCacheSpec};

/// A set of layers whose KV of the same tokens lies in the same block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerGroup {
    /// How far back its layers look.
    pub span: AttentionSpan,
    /// Layer indices, ascending.
    pub layers: Vec<usize>,
}

/// Where a layer's K and V lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSlot {
    /// Index of the layer's group, which is also its block table's index.
    pub group_idx: usize,
    /// Byte offset of the layer's K within a block.
    pub k_offset: usize,
    /// Byte offset of the layer's V within a block.
    pub v_offset: usize,
}

/// The cut of a model's KV into blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvLayout {
    /// Tokens a block holds; a power of two.
    pub block_tokens: usize,
    /// How values are stored.
    pub kv_dtype: KvDtype,
    /// Bytes of every block, whatever its group.
    pub block_bytes: usize,
    /// The layer groups; full-attention groups come first.
    pub groups: Vec<LayerGroup>,
    /// One entry a layer.
    pub slots: Vec<LayerSlot>,
}

/// Why a model's KV cannot be cut into blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A model without layers has no KV.
    #[error("the model has no layers")]
    NoLayers,
    /// Block sizes are powers of two between 16 and 256.
    #[error("a block of {0} tokens: not a power of two from 16 to 256")]
    BlockTokens(usize),
    /// A window of no width.
    #[error("layer {0} has a window of 0 tokens")]
    EmptyWindow(usize),
}

impl KvLayout {
    /// Cut `spec` into blocks of `block_tokens`.
    ///
    /// The group size is the one that wastes the least memory, and of those the one with the fewest groups.
    ///
    /// # Errors
    /// The spec has no layers or an empty window, or the block size is no power of two in range.
    pub fn new(
        spec: &ModelCacheSpec,
        block_tokens: usize,
        kv_dtype: KvDtype,
    ) -> Result<KvLayout, LayoutError> {
        if spec.layers.is_empty() {
            return Err(LayoutError::NoLayers);
        }
        if !block_tokens.is_power_of_two() || !(16..=256).contains(&block_tokens) {
            return Err(LayoutError::BlockTokens(block_tokens));
        }
        let mut spans: Vec<(AttentionSpan, Vec<usize>)> = Vec::new();
        for (layer, cache) in spec.layers.iter().enumerate() {
            if cache.span == (AttentionSpan::Window { tokens: 0 }) {
                return Err(LayoutError::EmptyWindow(layer));
            }
            match spans.iter_mut().find(|(span, _)| *span == cache.span) {
                Some((_, layers)) => layers.push(layer),
                None => spans.push((cache.span, vec![layer])),
            }
        }
        spans.sort_by_key(|(span, _)| match span {
            AttentionSpan::Full => 0,
            AttentionSpan::Window { tokens } => *tokens,
        });
        let smallest = spans.iter().map(|(_, layers)| layers.len()).min().unwrap_or(1);
        let n_groups = |size: usize| spans.iter().map(|(_, l)| l.len().div_ceil(size)).sum::<usize>();
        let size = (1..=smallest).min_by_key(|&size| (n_groups(size) * size, n_groups(size))).unwrap_or(1);
        let groups: Vec<LayerGroup> = spans
            .iter()
            .flat_map(|(span, layers)| {
                layers.chunks(size).map(|chunk| LayerGroup { span: *span, layers: chunk.to_vec() })
            })
            .collect();

        let empty = LayerSlot { group_idx: 0, k_offset: 0, v_offset: 0 };
        let mut slots = vec![empty; spec.layers.len()];
        let mut block_bytes = 0;
        for (group_idx, group) in groups.iter().enumerate() {
            let mut offset = 0;
            for &layer in &group.layers {
                let cache = &spec.layers[layer];
                let k_offset = offset;
                let v_offset = k_offset + part_bytes(cache, block_tokens, kv_dtype.key_bytes(cache.k_dim));
                offset = v_offset + part_bytes(cache, block_tokens, kv_dtype.value_bytes(cache.v_dim));
                slots[layer] = LayerSlot { group_idx, k_offset, v_offset };
            }
            block_bytes = block_bytes.max(offset);
        }
        Ok(KvLayout { block_tokens, kv_dtype, block_bytes, groups, slots })
    }

    /// KV bytes of one token when no window has closed yet.
    pub fn bytes_per_token(&self) -> usize {
        self.groups.len() * self.block_bytes / self.block_tokens
    }
}

/// Bytes of a layer's K or V in a block, rounded up to whole cache lines so that every part starts on one.
fn part_bytes(cache: &LayerCache, block_tokens: usize, vector_bytes: usize) -> usize {
    (cache.n_kv_heads * block_tokens * vector_bytes).next_multiple_of(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(spans: &[AttentionSpan]) -> ModelCacheSpec {
        let layer = |&span| LayerCache { n_kv_heads: 1, k_dim: 256, v_dim: 256, span };
        ModelCacheSpec { layers: spans.iter().map(layer).collect(), max_context: 32768, n_vocab: 8 }
    }

    #[test]
    fn layers_of_one_span_share_one_group() {
        let layout = KvLayout::new(&spec(&[AttentionSpan::Full; 30]), 32, KvDtype::F16).unwrap();
        assert_eq!(layout.groups.len(), 1);
        assert_eq!(layout.block_bytes, 30 * 32 * 2 * 256 * 2);
        assert_eq!(layout.bytes_per_token(), 30 * 2 * 256 * 2);
    }

    #[test]
    fn window_and_full_layers_get_blocks_of_one_size() {
        let window = AttentionSpan::Window { tokens: 512 };
        let spans: Vec<_> = (0..18).map(|l| if l % 6 == 5 { AttentionSpan::Full } else { window }).collect();
        let layout = KvLayout::new(&spec(&spans), 32, KvDtype::F16).unwrap();
        assert_eq!(layout.groups.len(), 6);
        assert_eq!(layout.groups[0], LayerGroup { span: AttentionSpan::Full, layers: vec![5, 11, 17] });
        assert!(layout.groups[1..].iter().all(|g| g.span == window && g.layers.len() == 3));
        assert_eq!(layout.block_bytes * 6, 18 * 32 * 2 * 256 * 2);
    }

    #[test]
    fn every_layer_lies_inside_its_block_and_overlaps_no_other() {
        let window = AttentionSpan::Window { tokens: 128 };
        let spans: Vec<_> = (0..26).map(|l| if l % 6 == 5 { AttentionSpan::Full } else { window }).collect();
        for dtype in [KvDtype::F16, KvDtype::Q8, KvDtype::Q4] {
            let layout = KvLayout::new(&spec(&spans), 16, dtype).unwrap();
            for group in &layout.groups {
                let mut end = 0;
                for &layer in &group.layers {
                    let slot = layout.slots[layer];
                    assert_eq!(slot.k_offset, end);
                    assert!(
                        slot.v_offset > slot.k_offset
                            && slot.k_offset.is_multiple_of(64)
                            && slot.v_offset.is_multiple_of(64)
                    );
                    assert_eq!(slot.v_offset - slot.k_offset, 16 * dtype.key_bytes(256));
                    end = slot.v_offset + 16 * dtype.value_bytes(256);
                }
                assert!(end <= layout.block_bytes);
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let full = spec(&[AttentionSpan::Full]);
        assert_eq!(KvLayout::new(&spec(&[]), 32, KvDtype::F16), Err(LayoutError::NoLayers));
        assert_eq!(KvLayout::new(&full, 24, KvDtype::F16), Err(LayoutError::BlockTokens(24)));
        let closed = spec(&[AttentionSpan::Window { tokens: 0 }]);
        assert_eq!(KvLayout::new(&closed, 32, KvDtype::F16), Err(LayoutError::EmptyWindow(0)));
    }
}
