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

/// Where a layer keeps its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValuePlace {
    /// Beside its keys.
    BesideKeys,
    /// They are the first `v_dim` of each key and are stored with it, once and as precisely (latent attention).
    InKeys,
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
    /// Where these are.
    pub v_place: ValuePlace,
    /// How far back this layer looks.
    pub span: AttentionSpan,
}

impl LayerCache {
    /// Bytes that its keys and its values, where they are beside them, take in a block; each rounded up to whole cache
    /// lines, so that every part starts on one.
    pub(crate) fn part_bytes(&self, block_tokens: usize, dtype: KvDtype) -> (usize, usize) {
        let part = |vector_bytes: usize| (self.n_kv_heads * block_tokens * vector_bytes).next_multiple_of(64);
        let v_bytes = match self.v_place {
            ValuePlace::BesideKeys => part(dtype.value_bytes(self.v_dim)),
            ValuePlace::InKeys => 0,
        };
        (part(dtype.key_bytes(self.k_dim)), v_bytes)
    }
}

/// What a recurrent layer has after a sequence's tokens, however many these are; values are f32.
///
/// It cannot be cut back to an earlier position. Its heads, and the columns of its convolution's input, are its units:
/// each lies in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerState {
    /// Heads, each with a state that no other one changes; none where there is a convolution alone.
    pub n_heads: usize,
    /// Values of a head's state.
    pub head_values: usize,
    /// The last inputs of the convolution that its next output takes: its width less one.
    pub n_columns: usize,
    /// Values of such an input: the channels.
    pub column_values: usize,
}

impl LayerState {
    /// Bytes that a head's state takes in a block, in whole cache lines.
    pub fn head_bytes(&self) -> usize {
        (4 * self.head_values).next_multiple_of(64)
    }

    /// Bytes that a column takes in a block, in whole cache lines.
    pub fn column_bytes(&self) -> usize {
        (4 * self.column_values).next_multiple_of(64)
    }
}

/// What a layer has in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerKv {
    /// Keys and values of its own.
    Own(LayerCache),
    /// None of its own: it reads those of the layer with this index, an earlier one that has some.
    Of(usize),
    /// A state of fixed size instead.
    State(LayerState),
    /// Nothing: it mixes no tokens.
    Nothing,
}

/// The KV shape of a whole model, in layer order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCacheSpec {
    /// One entry a layer.
    pub layers: Vec<LayerKv>,
    /// Positions that the model was trained for.
    pub max_context: usize,
    /// Rows of the output head; the width of a row of logits.
    pub n_vocab: usize,
}

impl ModelCacheSpec {
    /// Whether every layer has KV of its own, and all of one shape but for how far they look back.
    pub fn is_uniform(&self) -> bool {
        let shape = |kv: &LayerKv| match *kv {
            LayerKv::Own(cache) => Some(LayerCache { span: AttentionSpan::Full, ..cache }),
            LayerKv::Of(_) | LayerKv::State(_) | LayerKv::Nothing => None,
        };
        let mut shapes = self.layers.iter().map(shape);
        let first = shapes.next().flatten();
        first.is_some() && shapes.all(|shape| shape == first)
    }
}
