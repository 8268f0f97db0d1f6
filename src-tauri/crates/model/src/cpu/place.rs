//! Where a layer's keys and values lie.

use kernels::kv::{KvFormat, KvLayer};
use scheduler::{KvDtype, KvLayout, LayerSlot};

use crate::plan::model_plan::{AttentionPlan, LayerPlan, MixerPlan, ModelPlan};
use crate::run::texts::TEXT_BLOCK_TOKENS;

/// A layer's place in each block of its group.
pub(crate) struct Place {
    pub(super) kv: KvLayer,
    pub(super) group_idx: usize,
}

impl Place {
    /// In a pool that `layout` cuts, for each layer of `plan`.
    pub(crate) fn in_pool(plan: &ModelPlan, layout: &KvLayout) -> Vec<Place> {
        (0..).zip(&plan.layers).map(|(idx, layer)| Place::of(idx, layer, layout)).collect()
    }

    /// For each layer of `plan` the same blocks: what lies there lasts for one layer of a text.
    pub(super) fn for_texts(plan: &ModelPlan) -> Vec<Place> {
        let place = |layer: &LayerPlan| {
            let (n_kv_heads, k_dim, v_dim) = heads(layer);
            let (block_tokens, block_bytes, dtype) = (TEXT_BLOCK_TOKENS, 0, KvFormat::F16);
            let mut kv = KvLayer {
                n_kv_heads,
                k_dim,
                v_dim,
                block_tokens,
                block_bytes,
                k_offset: 0,
                v_offset: None,
                dtype,
            };
            let v_offset = kv.k_bytes().next_multiple_of(64);
            kv.v_offset = Some(v_offset);
            kv.block_bytes = v_offset + kv.v_bytes();
            Place { kv, group_idx: 0 }
        };
        let mut places: Vec<Place> = plan.layers.iter().map(place).collect();
        let block_bytes = places.iter().map(|place| place.kv.block_bytes).max().unwrap_or(0);
        places.iter_mut().for_each(|place| place.kv.block_bytes = block_bytes);
        places
    }

    fn of(layer_idx: usize, layer: &LayerPlan, layout: &KvLayout) -> Place {
        let slot = layout.slots[layer_idx].unwrap_or(LayerSlot { group_idx: 0, k_offset: 0, v_offset: None });
        let (n_kv_heads, k_dim, v_dim) = heads(layer);
        let kv = KvLayer {
            n_kv_heads,
            k_dim,
            v_dim,
            block_tokens: layout.block_tokens,
            block_bytes: layout.block_bytes,
            k_offset: slot.k_offset,
            v_offset: slot.v_offset,
            dtype: match layout.kv_dtype {
                KvDtype::F16 => KvFormat::F16,
                KvDtype::Q8 => KvFormat::Q8,
                KvDtype::Q4 => KvFormat::Q4,
            },
        };
        Place { kv, group_idx: slot.group_idx }
    }
}

/// KV heads, values of a key and of a value.
fn heads(layer: &LayerPlan) -> (usize, usize, usize) {
    match layer.mixer {
        MixerPlan::Softmax(AttentionPlan { n_kv_heads, k_dim, v_dim, .. }) => (n_kv_heads, k_dim, v_dim),
        MixerPlan::Latent(latent) => (1, latent.k_dim(), latent.n_latent),
    }
}
