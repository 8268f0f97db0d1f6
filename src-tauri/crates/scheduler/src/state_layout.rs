//! How the state of recurrent layers is cut into blocks.
//!
//! A state has one size, however long its sequence is. It is cut into **pieces**, each of which lies in one block of the
//! pool, in the order of its layers and, within a layer, of its heads and then its columns; what no whole unit fits into
//! at a piece's end is unused. All pieces of a state have one fate: they come and go together.
//!
//! ```text
//! Qwen 3.5 0.8B: 18 layers of 16 heads of 64 KiB and 3 columns of 24 KiB, blocks of 384 KiB
//!   piece 0   layer 0: heads 0 to 5                      ┌ h0 ┬ h1 ┬ h2 ┬ h3 ┬ h4 ┬ h5 ┐
//!   piece 1   layer 0: heads 6 to 11                     └────┴────┴────┴────┴────┴────┘
//!   piece 2   layer 0: heads 12 to 15, columns 0 to 2, unused: 56 KiB
//!   …
//! ```

use crate::cache_spec::{LayerKv, LayerState, ModelCacheSpec};

/// Where a unit of a state lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatePlace {
    /// The piece's number: an index into the list of a state's blocks.
    pub piece: usize,
    /// Byte offset within that block; a multiple of 64.
    pub offset: usize,
}

/// Where the state of one layer lies; nothing where the layer has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerStatePlaces {
    /// For each head.
    pub heads: Vec<StatePlace>,
    /// For each column of the convolution's input; the oldest first.
    pub columns: Vec<StatePlace>,
}

/// The cut of a model's recurrent state into blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateLayout {
    /// Blocks of a state; 0 where no layer has one.
    pub n_pieces: usize,
    /// Bytes of them that are in use.
    pub used_bytes: usize,
    /// One entry a layer; empty where no layer has a state.
    pub layers: Vec<LayerStatePlaces>,
}

impl StateLayout {
    /// The cut of `spec`'s states into blocks of `block_bytes`, of which each holds any one unit.
    pub(crate) fn new(spec: &ModelCacheSpec, block_bytes: usize) -> StateLayout {
        if largest_unit(spec) == 0 {
            return StateLayout::default();
        }
        let mut cut = StateLayout::default();
        let mut end = block_bytes;
        let mut place = |n_bytes: usize| {
            if end + n_bytes > block_bytes {
                (cut.n_pieces, end) = (cut.n_pieces + 1, 0);
            }
            let place = StatePlace { piece: cut.n_pieces - 1, offset: end };
            end += n_bytes;
            cut.used_bytes += n_bytes;
            place
        };
        let mut layers = Vec::new();
        for kv in &spec.layers {
            layers.push(match kv {
                LayerKv::State(state) => LayerStatePlaces {
                    heads: (0..state.n_heads).map(|_| place(state.head_bytes())).collect(),
                    columns: (0..state.n_columns).map(|_| place(state.column_bytes())).collect(),
                },
                LayerKv::Own(_) | LayerKv::Of(_) | LayerKv::Nothing => LayerStatePlaces::default(),
            });
        }
        cut.layers = layers;
        cut
    }

    /// Whether any layer has a state.
    pub fn is_empty(&self) -> bool {
        self.n_pieces == 0
    }
}

/// Bytes of the largest unit of a model's states; 0 where no layer has one.
pub(crate) fn largest_unit(spec: &ModelCacheSpec) -> usize {
    let unit = |state: &LayerState| {
        let head = if state.n_heads > 0 { state.head_bytes() } else { 0 };
        let column = if state.n_columns > 0 { state.column_bytes() } else { 0 };
        head.max(column)
    };
    let states = spec.layers.iter().filter_map(|kv| match kv {
        LayerKv::State(state) => Some(unit(state)),
        LayerKv::Own(_) | LayerKv::Of(_) | LayerKv::Nothing => None,
    });
    states.max().unwrap_or(0)
}
