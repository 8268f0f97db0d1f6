//! Where a layer's keys and values lie, or its state.

use kernels::kv::{KvFormat, KvLayer};
use kernels::state::{StateLayer, StateUnit};
use scheduler::{KvDtype, KvLayout, LayerKv, LayerSlot, RunError, StatePlace};

use crate::plan::model_plan::{AttentionPlan, LayerPlan, MixerPlan, ModelPlan};
use crate::run::texts::TEXT_BLOCK_TOKENS;

/// What a layer has in the pool.
pub(crate) enum Place {
    /// Keys and values.
    Kv(KvPlace),
    /// A state instead.
    State(StateLayer),
    /// Nothing.
    Nothing,
}

/// A layer's place in each block of its group.
pub(crate) struct KvPlace {
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
            let (n_kv_heads, k_dim, v_dim) = heads(layer)?;
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
            Some(kv)
        };
        let mut kvs: Vec<Option<KvLayer>> = plan.layers.iter().map(place).collect();
        let block_bytes = kvs.iter().flatten().map(|kv| kv.block_bytes).max().unwrap_or(0);
        kvs.iter_mut().flatten().for_each(|kv| kv.block_bytes = block_bytes);
        kvs.into_iter()
            .map(|kv| kv.map_or(Place::Nothing, |kv| Place::Kv(KvPlace { kv, group_idx: 0 })))
            .collect()
    }

    fn of(layer_idx: usize, layer: &LayerPlan, layout: &KvLayout) -> Place {
        match (layer.kv(), heads(layer)) {
            (LayerKv::State(state), _) => {
                let places = layout.state.layers.get(layer_idx).cloned().unwrap_or_default();
                let units = |places: &[StatePlace]| {
                    places.iter().map(|&StatePlace { piece, offset }| StateUnit { piece, offset }).collect()
                };
                let values = (state.head_values, state.column_values);
                let (heads, columns) = (units(&places.heads), units(&places.columns));
                Place::State(StateLayer::new(heads, columns, values, layout.block_bytes))
            }
            (LayerKv::Own(_) | LayerKv::Of(_), Some(heads)) => {
                Place::Kv(KvPlace::of(layer_idx, heads, layout))
            }
            _ => Place::Nothing,
        }
    }

    /// Where the layer's keys and values lie; none where it has none.
    pub(super) fn kv(&self) -> Option<&KvPlace> {
        match self {
            Place::Kv(place) => Some(place),
            Place::State(_) | Place::Nothing => None,
        }
    }

    /// As [`Place::kv`], for the layer of index `layer_idx`, which must have them.
    pub(super) fn need_kv(&self, layer_idx: usize) -> Result<&KvPlace, RunError> {
        self.kv().ok_or_else(|| RunError::InvalidStep(format!("layer {layer_idx} has no place for keys")))
    }

    /// Where the state of the layer of index `layer_idx` lies, which must have one.
    pub(super) fn need_state(&self, layer_idx: usize) -> Result<&StateLayer, RunError> {
        match self {
            Place::State(state) => Ok(state),
            Place::Kv(_) | Place::Nothing => {
                Err(RunError::InvalidStep(format!("layer {layer_idx} has no place for a state")))
            }
        }
    }
}

impl KvPlace {
    fn of(layer_idx: usize, (n_kv_heads, k_dim, v_dim): (usize, usize, usize), layout: &KvLayout) -> KvPlace {
        let slot = layout.slots[layer_idx].unwrap_or(LayerSlot { group_idx: 0, k_offset: 0, v_offset: None });
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
        KvPlace { kv, group_idx: slot.group_idx }
    }
}

/// KV heads, values of a key and of a value; none of a layer that has no keys.
fn heads(layer: &LayerPlan) -> Option<(usize, usize, usize)> {
    match layer.mixer {
        MixerPlan::Softmax(AttentionPlan { n_kv_heads, k_dim, v_dim, .. }) => {
            Some((n_kv_heads, k_dim, v_dim))
        }
        MixerPlan::Latent(latent) => Some((1, latent.k_dim(), latent.n_latent)),
        MixerPlan::Recurrent(_) | MixerPlan::Nothing => None,
    }
}
