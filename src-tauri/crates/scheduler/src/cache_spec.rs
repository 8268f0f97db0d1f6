//! What a model's KV cache looks like, layer by layer; everything that pool arithmetic needs to know of a model.

/// How far back a layer's attention looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttentionSpan {
    /// Every earlier position.
    Full,
    /// The last `tokens` positions, the query's own included: key `j` is seen from `i` when `i - j < tokens`.
    Window {
        /// Width of the window.
        tokens: usize,
    },
}

impl AttentionSpan {
    /// The window's width, if there is one.
    pub fn window(self) -> Option<usize> {
        match self {
            AttentionSpan::Full => None,
            AttentionSpan::Window { tokens } => Some(tokens),
        }
    }
}

/// How K and V are stored in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvDtype {
    /// Half precision.
    F16,
    /// 8-bit integers, one f16 scale for every 32 values of a head's vector.
    Q8,
    /// Values as 4-bit integers, keys as in [`KvDtype::Q8`]; one f16 scale for every 32 values of a head's vector.
    Q4,
}

impl KvDtype {
    /// Bytes of one head's key of `dim` values; quantisation groups never cross a head or a token.
    pub fn key_bytes(self, dim: usize) -> usize {
        match self {
            KvDtype::F16 => 2 * dim,
            KvDtype::Q8 | KvDtype::Q4 => dim + 2 * dim.div_ceil(32),
        }
    }

    /// Bytes of one head's value vector of `dim` values.
    pub fn value_bytes(self, dim: usize) -> usize {
        match self {
            KvDtype::F16 => 2 * dim,
            KvDtype::Q8 => dim + 2 * dim.div_ceil(32),
            KvDtype::Q4 => dim.div_ceil(2) + 2 * dim.div_ceil(32),
        }
    }

    /// The name used in settings: `f16`, `q8` or `q4`.
    pub fn name(self) -> &'static str {
        match self {
            KvDtype::F16 => "f16",
            KvDtype::Q8 => "q8",
            KvDtype::Q4 => "q4",
        }
    }
}

/// The KV shape of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerCache {
    /// KV heads (fewer than query heads under GQA).
    pub n_kv_heads: usize,
    /// Values in one head's key.
    pub k_dim: usize,
    /// Values in one head's value.
    pub v_dim: usize,
    /// How far back this layer looks.
    pub span: AttentionSpan,
}

/// The KV shape of a whole model, in layer order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCacheSpec {
    /// One entry a layer.
    pub layers: Vec<LayerCache>,
    /// Positions that the model was trained for.
    pub max_context: usize,
    /// Rows of the output head; the width of a row of logits.
    pub n_vocab: usize,
}
