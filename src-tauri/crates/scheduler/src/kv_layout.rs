//! How a block's bytes are cut into layers.
//!
//! Layers with the same span are gathered into groups that fill a block, so that **every block of every group has the
//! same number of bytes** and one pool serves them all: memory that windows free goes to full layers, and back.
//!
//! ```text
//! Gemma 3 270M: 15 window layers, 3 full        a block of group 1, 32 tokens
//!   group 0   full     layers 5 11 17           ┌ layer 0 ─────┬ layer 1 ─────┬ layer 2 ─────┐
//!   group 1   window   layers 0 1 2             │  K    │  V   │  K    │  V   │  K    │  V   │
//!   group 2   window   layers 3 4 6             └──────────────┴──────────────┴──────────────┘
//!   …                                            within K or V: [n_kv_heads][block_tokens × dim]
//!
//! Gemma 4 12B: a full layer's KV is a quarter of a window layer's
//!   group 0   full     layers 5 11 17 23 29 35 41 47
//!   group 1   window   layers 0 1
//!   …
//! ```

use address::GroupId;

use crate::cache_spec::{AttentionSpan, KvDtype, LayerCache, LayerKv, ModelCacheSpec, ValuePlace};
use crate::state_layout::{LayerStatePlaces, StateLayout, StatePlace, largest_unit};

/// A set of layers whose KV of the same tokens lies in the same block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerGroup {
    /// How far back its layers look.
    pub span: AttentionSpan,
    /// Layer indices, ascending; layers without KV of their own are in no group.
    pub layers: Vec<usize>,
    /// Bytes of a block that these layers fill; the rest is unused.
    pub used_bytes: usize,
}

/// Where a layer's K and V lie. A layer that reads another's has that one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSlot {
    /// Index of the layer's group, which is also its block table's index.
    pub group_idx: usize,
    /// Byte offset of the layer's K within a block.
    pub k_offset: usize,
    /// Byte offset of the layer's V within a block; none where the values are in the keys.
    pub v_offset: Option<usize>,
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
    /// One entry a layer; none where it has no KV.
    pub slots: Vec<Option<LayerSlot>>,
    /// The cut of the states that recurrent layers have instead.
    pub state: StateLayout,
}

/// Why a model's KV cannot be cut into blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A model without layers has no KV.
    #[error("the model has no layers")]
    NoLayers,
    /// A model in which no layer attends: nothing would grow with its tokens.
    #[error("the model has no layer with attention")]
    NoAttention,
    /// More pieces of state than have numbers.
    #[error("a state of {0} blocks")]
    LargeState(usize),
    /// Block sizes are powers of two between 16 and 256.
    #[error("a block of {0} tokens: not a power of two from 16 to 256")]
    BlockTokens(usize),
    /// A window of no width.
    #[error("layer {0} has a window of 0 tokens")]
    EmptyWindow(usize),
    /// Values in keys that have fewer.
    #[error("layer {0} has values in its keys that are longer than these")]
    LongValues(usize),
    /// Shared KV that is nobody's, or not yet there when the layer reads it.
    #[error("layer {layer} reads the KV of layer {of}, which has none before it")]
    NothingToShare {
        /// The layer that has none of its own.
        layer: usize,
        /// The layer that it reads.
        of: usize,
    },
}

impl KvLayout {
    /// Tokens of the conversation for which the cut leaves least unused, if the model's context has so many.
    pub const LONG_CONTEXT: usize = 32_768;

    /// Cut `spec` into blocks of `block_tokens`.
    ///
    /// Of all sizes that a block could have, it is the one with which a conversation of [`KvLayout::LONG_CONTEXT`]
    /// tokens takes the least memory, and of those the one with the fewest groups. The groups of full layers weigh most
    /// in that, because a window's blocks do not become more with the context.
    ///
    /// # Errors
    /// The spec has no layers, an empty window, or layers that share what is not there, or the block size is no power
    /// of two in range.
    pub fn new(
        spec: &ModelCacheSpec,
        block_tokens: usize,
        kv_dtype: KvDtype,
    ) -> Result<KvLayout, LayoutError> {
        if !block_tokens.is_power_of_two() || !(16..=256).contains(&block_tokens) {
            return Err(LayoutError::BlockTokens(block_tokens));
        }
        let mut spans = spans_of(spec, block_tokens, kv_dtype)?;
        spans.sort_by_key(|span| match span.span {
            AttentionSpan::Full => 0,
            AttentionSpan::Window { tokens } => tokens,
        });
        let n_tokens = spec.max_context.min(KvLayout::LONG_CONTEXT);
        let cut = best_cut(&spans, |span| held_blocks(span, n_tokens, block_tokens));

        let mut slots = vec![None; spec.layers.len()];
        for (group_idx, group) in cut.groups.iter().enumerate() {
            let mut offset = 0;
            for &layer in &group.layers {
                let LayerKv::Own(cache) = &spec.layers[layer] else { continue };
                let (k_bytes, v_bytes) = cache.part_bytes(block_tokens, kv_dtype);
                let v_offset = (cache.v_place == ValuePlace::BesideKeys).then_some(offset + k_bytes);
                slots[layer] = Some(LayerSlot { group_idx, k_offset: offset, v_offset });
                offset += k_bytes + v_bytes;
            }
        }
        for (layer, kv) in spec.layers.iter().enumerate() {
            if let LayerKv::Of(of) = *kv {
                slots[layer] = slots[of];
            }
        }
        // Blocks are cut for keys and values; only a state with a unit larger than any of them makes them larger.
        let block_bytes = cut.block_bytes.max(largest_unit(spec));
        let state = StateLayout::new(spec, block_bytes);
        if state.n_pieces > GroupId::MAX {
            return Err(LayoutError::LargeState(state.n_pieces));
        }
        Ok(KvLayout { block_tokens, kv_dtype, block_bytes, groups: cut.groups, slots, state })
    }

    /// Bytes of memory that one state takes: its blocks, with what they leave unused.
    pub fn state_bytes(&self) -> usize {
        self.state.n_pieces * self.block_bytes
    }

    /// The share of a state's blocks, from 0 to 1, that it leaves unused because no whole unit fits there; 0 where there
    /// is no state.
    pub fn unused_state_share(&self) -> f64 {
        let taken = self.state_bytes();
        if taken > 0 { 1.0 - self.state.used_bytes as f64 / taken as f64 } else { 0.0 }
    }

    /// KV bytes of one token when no window has closed yet.
    pub fn bytes_per_token(&self) -> usize {
        self.groups.len() * self.block_bytes / self.block_tokens
    }

    /// The share of its blocks' bytes, from 0 to 1, that a conversation of `n_tokens` leaves unused because its layers
    /// do not fill them; 0 where every group fills its blocks.
    pub fn unused_share(&self, n_tokens: usize) -> f64 {
        let sum = |bytes_of: &dyn Fn(&LayerGroup) -> usize| -> f64 {
            let held = |group: &LayerGroup| held_blocks(group.span, n_tokens, self.block_tokens);
            self.groups.iter().map(|group| held(group) as f64 * bytes_of(group) as f64).sum()
        };
        let taken = sum(&|_| self.block_bytes);
        if taken > 0.0 { 1.0 - sum(&|group| group.used_bytes) / taken } else { 0.0 }
    }

    /// The cut in words, the same for no two that put a layer's bytes elsewhere: for what must change with it.
    pub fn description(&self) -> String {
        let mut text = format!("blocks of {} bytes", self.block_bytes);
        for (layer, slot) in self.slots.iter().enumerate() {
            let Some(LayerSlot { group_idx, k_offset, v_offset }) = slot else { continue };
            let v = v_offset.map_or_else(|| "in K".to_owned(), |offset| offset.to_string());
            text += &format!("; layer {layer}: group {group_idx}, K {k_offset}, V {v}");
        }
        for (layer, LayerStatePlaces { heads, columns }) in self.state.layers.iter().enumerate() {
            for (what, places) in [("head", heads), ("column", columns)] {
                for (idx, StatePlace { piece, offset }) in places.iter().enumerate() {
                    text += &format!("; layer {layer}: {what} {idx} in piece {piece} at {offset}");
                }
            }
        }
        text
    }
}

/// The layers of one span, and the bytes that each takes in a block.
struct Span {
    span: AttentionSpan,
    layers: Vec<(usize, usize)>,
}

/// Layers with KV of their own, by their spans.
fn spans_of(spec: &ModelCacheSpec, block_tokens: usize, kv_dtype: KvDtype) -> Result<Vec<Span>, LayoutError> {
    let mut spans: Vec<Span> = Vec::new();
    for (layer, kv) in spec.layers.iter().enumerate() {
        let cache: &LayerCache = match kv {
            LayerKv::Own(cache) => cache,
            &LayerKv::Of(of) if of < layer && matches!(spec.layers[of], LayerKv::Own(_)) => continue,
            &LayerKv::Of(of) => return Err(LayoutError::NothingToShare { layer, of }),
            LayerKv::State(_) | LayerKv::Nothing => continue,
        };
        if cache.span == (AttentionSpan::Window { tokens: 0 }) {
            return Err(LayoutError::EmptyWindow(layer));
        }
        if cache.v_place == ValuePlace::InKeys && cache.v_dim > cache.k_dim {
            return Err(LayoutError::LongValues(layer));
        }
        let (k_bytes, v_bytes) = cache.part_bytes(block_tokens, kv_dtype);
        let entry = (layer, k_bytes + v_bytes);
        match spans.iter_mut().find(|span| span.span == cache.span) {
            Some(span) => span.layers.push(entry),
            None => spans.push(Span { span: cache.span, layers: vec![entry] }),
        }
    }
    match (spans.is_empty(), spec.layers.is_empty()) {
        (true, true) => Err(LayoutError::NoLayers),
        (true, false) => Err(LayoutError::NoAttention),
        (false, _) => Ok(spans),
    }
}

/// Blocks that a conversation of `n_tokens` holds in each group of a span.
fn held_blocks(span: AttentionSpan, n_tokens: usize, block_tokens: usize) -> usize {
    let all = n_tokens.div_ceil(block_tokens);
    // A window may start anywhere in a block.
    span.window().map_or(all, |window| all.min(window.saturating_sub(1).div_ceil(block_tokens) + 1))
}

/// Groups, and the size of the blocks that hold each.
struct Cut {
    block_bytes: usize,
    groups: Vec<LayerGroup>,
}

/// The cut of which a conversation that holds `n_held` blocks in each group of a span takes the least bytes.
fn best_cut(spans: &[Span], n_held: impl Fn(AttentionSpan) -> usize) -> Cut {
    let ordered: Vec<Span> = spans.iter().map(Span::largest_first).collect();
    let largest = ordered.iter().map(|span| span.layers[0].1).max().unwrap_or(0);
    // A block that some layers of a span fill to the last byte; any other size leaves something unused in each.
    let mut sizes: Vec<usize> = ordered.iter().flat_map(Span::sums).filter(|&size| size >= largest).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let cost = |size: usize| {
        let (mut fullest, mut n_groups, mut n_blocks) = (0, 0, 0);
        for span in &ordered {
            let groups = span.groups(size);
            n_groups += groups.len();
            n_blocks += groups.len() as u128 * n_held(span.span).max(1) as u128;
            fullest = groups.iter().map(|group| group.used_bytes).fold(fullest, usize::max);
        }
        (n_blocks * fullest as u128, n_groups)
    };
    let size = sizes.into_iter().min_by_key(|&size| cost(size)).unwrap_or(largest);
    let groups: Vec<LayerGroup> = ordered.iter().flat_map(|span| span.groups(size)).collect();
    Cut { block_bytes: groups.iter().map(|group| group.used_bytes).max().unwrap_or(0), groups }
}

impl Span {
    /// With those layers first that take most, and those that take the same in their order.
    fn largest_first(&self) -> Span {
        let mut layers = self.layers.clone();
        layers.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
        Span { span: self.span, layers }
    }

    /// The bytes of its first layer, of its first two, and so on.
    fn sums(&self) -> impl Iterator<Item = usize> {
        self.layers.iter().scan(0, |sum, &(_, bytes)| {
            *sum += bytes;
            Some(*sum)
        })
    }

    /// Its layers one after the other in blocks of `size`, which is enough for each.
    fn groups(&self, size: usize) -> Vec<LayerGroup> {
        let mut groups: Vec<LayerGroup> = Vec::new();
        for &(layer, bytes) in &self.layers {
            match groups.last_mut().filter(|group| group.used_bytes + bytes <= size) {
                Some(group) => {
                    group.layers.push(layer);
                    group.used_bytes += bytes;
                }
                None => groups.push(LayerGroup { span: self.span, layers: vec![layer], used_bytes: bytes }),
            }
        }
        groups.iter_mut().for_each(|group| group.layers.sort_unstable());
        groups
    }
}
