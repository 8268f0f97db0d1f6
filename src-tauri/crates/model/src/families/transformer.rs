//! What nearly every family has: the sizes that a file states, the plain plan of them, and the plain list of tensors.
//! A family's own file says what differs.

use std::ops::Range;

use kernels::kv::MAX_HEAD_DIM;
use scheduler::AttentionSpan;

use super::experts::expert_tensors;
use super::keys::Keys;
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{
    Activation, AttentionPlan, FeedForwardPlan, GatedPlan, LayerPlan, ModelPlan, NormOver,
};
use crate::plan::rope_plan::RopePlan;
use crate::plan::tensor_list::{TensorList, TensorPlace};
use crate::plan::weights::{
    AttentionWeights, BranchEnd, FeedForwardWeights, GatedWeights, LayerWeights, ModelWeights, Projection,
};

const MAX_LAYERS: usize = 1024;

/// The sizes of a model whose layers are all alike.
pub(super) struct Sizes {
    pub(super) n_layers: usize,
    pub(super) n_embd: usize,
    pub(super) n_heads: usize,
    /// Values of a head that turn.
    pub(super) n_rot: usize,
    n_ff: usize,
    n_kv_heads: usize,
    k_dim: usize,
    v_dim: usize,
    n_vocab: usize,
}

impl Sizes {
    pub(super) fn read(keys: &Keys<'_>) -> Result<Sizes, Cause> {
        keys.refuse_what_nobody_runs()?;
        let n_layers = keys.count_to("block_count", None, MAX_LAYERS)?;
        let n_embd = keys.count("embedding_length", None)?;
        let n_heads = keys.count("attention.head_count", None)?;
        let n_kv_heads = keys.count("attention.head_count_kv", Some(n_heads))?;
        if n_heads % n_kv_heads != 0 {
            return Err(Cause::Malformed(format!("{n_heads} query heads on {n_kv_heads} KV heads")));
        }
        let k_dim = keys.count("attention.key_length", Some(n_embd / n_heads))?;
        let v_dim = keys.count("attention.value_length", Some(n_embd / n_heads))?;
        let n_rot = keys.count_to("rope.dimension_count", Some(k_dim), k_dim)?;
        if k_dim.max(v_dim) > MAX_HEAD_DIM {
            return Err(Cause::Unsupported(format!(
                "heads of {k_dim} and {v_dim} values; up to {MAX_HEAD_DIM} are"
            )));
        }
        if n_rot % 2 != 0 {
            return Err(Cause::Malformed(format!("{n_rot} rotating values in a head, an odd number")));
        }
        let n_vocab = keys.n_vocab(n_embd)?;
        let n_ff = keys.count("feed_forward_length", None)?;
        Ok(Sizes { n_layers, n_embd, n_ff, n_heads, n_kv_heads, k_dim, v_dim, n_rot, n_vocab })
    }

    /// The plan of layers that all look at everything and turn by `rope`.
    pub(super) fn plan(
        &self,
        keys: &Keys<'_>,
        rope: RopePlan,
        activation: Activation,
    ) -> Result<ModelPlan, Cause> {
        let Sizes { n_ff, n_heads, n_kv_heads, k_dim, v_dim, .. } = *self;
        let scale = keys.positive("attention.scale")?.unwrap_or(1.0 / (k_dim as f32).sqrt());
        let softcap = keys.positive("attn_logit_softcapping")?;
        let attention = AttentionPlan {
            n_heads,
            n_kv_heads,
            k_dim,
            v_dim,
            span: AttentionSpan::Full,
            scale,
            softcap,
            rope_idx: Some(0),
            norm_over: NormOver::Heads,
            temperature: None,
        };
        let feed_forward = FeedForwardPlan::Gated(GatedPlan { n_ff, activation });
        let layer = LayerPlan { attention, feed_forward };
        Ok(ModelPlan {
            architecture: keys.architecture(),
            n_vocab: self.n_vocab,
            n_embd: self.n_embd,
            max_context: keys.count("context_length", None)?,
            norm_eps: keys.norm_eps()?,
            embedding_scale: 1.0,
            branch_scale: 1.0,
            logit_scale: 1.0,
            logit_softcap: keys.positive("final_logit_softcapping")?,
            ropes: vec![rope],
            layers: vec![layer; self.n_layers],
        })
    }
}

/// Names the tensors of one layer.
pub(super) struct LayerNames<'a> {
    layer_idx: usize,
    gguf: &'a Gguf,
}

impl LayerNames<'_> {
    /// The matrix that takes `n_in` values to `n_out`.
    pub(super) fn matrix(&self, name: &str, n_in: usize, n_out: usize) -> TensorPlace {
        self.place(name, vec![n_in, n_out])
    }

    pub(super) fn vector(&self, name: &str, n_values: usize) -> TensorPlace {
        self.place(name, vec![n_values])
    }

    /// The vector, where the file has it.
    pub(super) fn vector_if_there(&self, name: &str, n_values: usize) -> Option<TensorPlace> {
        self.has(name).then(|| self.vector(name, n_values))
    }

    /// Rows of as many values, where the file has them.
    pub(super) fn table_if_there(&self, name: &str, shape: [usize; 2]) -> Option<TensorPlace> {
        self.has(name).then(|| self.place(name, shape.to_vec()))
    }

    /// Rows `rows` of each of the matrices that a tensor of shape `[n_in, n_rows, n]` stacks. Where the file has no such
    /// tensor it is one place, so that what a file merely claims takes no memory.
    pub(super) fn stacked(&self, name: &str, shape: [usize; 3], rows: Range<usize>) -> Vec<TensorPlace> {
        let whole = self.place(name, shape.to_vec());
        let [_, n_rows, n] = shape;
        if self.gguf.tensor_of(&whole.name, &whole.shape).is_err() {
            return vec![whole];
        }
        let part = |i: usize| Some(i * n_rows + rows.start..i * n_rows + rows.end);
        (0..n).map(|i| TensorPlace { part: part(i), ..whole.clone() }).collect()
    }

    /// Whether the file has a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.gguf.tensor(&self.name(name)).is_some()
    }

    /// Products of the same rows with matrices of `n_outs` rows, which are one tensor, one after the other, and so are
    /// their biases.
    pub(super) fn fused<const N: usize>(
        &self,
        name: &str,
        n_in: usize,
        n_outs: [usize; N],
    ) -> [Projection<TensorPlace, TensorPlace>; N] {
        let n_rows = n_outs.iter().sum();
        let whole = self.matrix(&format!("{name}.weight"), n_in, n_rows);
        let bias = self.vector_if_there(&format!("{name}.bias"), n_rows);
        let mut first = 0;
        n_outs.map(|n_out| {
            let part = Some(first..first + n_out);
            first += n_out;
            let bias = bias.clone().map(|bias| TensorPlace { part: part.clone(), ..bias });
            Projection { matrix: TensorPlace { part, ..whole.clone() }, bias }
        })
    }

    fn name(&self, name: &str) -> String {
        format!("blk.{}.{name}", self.layer_idx)
    }

    fn place(&self, name: &str, shape: Vec<usize>) -> TensorPlace {
        TensorPlace { name: self.name(name), shape, part: None }
    }
}

/// The tensors of a layer.
pub(super) type LayerTensors = LayerWeights<TensorPlace, TensorPlace>;

/// The tensors of a model of `plan`, whose layers have those that `layer` says.
pub(super) fn tensors_of(
    plan: &ModelPlan,
    gguf: &Gguf,
    layer: impl Fn(&LayerNames<'_>, &ModelPlan, &LayerPlan) -> LayerTensors,
) -> TensorList {
    let ModelPlan { n_embd, n_vocab, .. } = *plan;
    let place = |name: &str, shape: &[usize]| TensorPlace {
        name: name.to_owned(),
        shape: shape.to_vec(),
        part: None,
    };
    let has_head = gguf.tensor("output.weight").is_some();
    let layers = plan.layers.iter().enumerate();
    let weights = ModelWeights {
        embeddings: place("token_embd.weight", &[n_embd, n_vocab]),
        layers: layers.map(|(layer_idx, of)| layer(&LayerNames { layer_idx, gguf }, plan, of)).collect(),
        output_norm: place("output_norm.weight", &[n_embd]),
        output: has_head.then(|| place("output.weight", &[n_embd, n_vocab])),
    };
    let has_factors = plan.ropes.iter().any(|rope| !rope.factors.is_empty());
    let in_plan = has_factors.then(|| Keys::ROPE_FACTORS.to_owned()).into_iter().collect();
    TensorList { weights, in_plan }
}

/// The tensors of a plain layer. Queries, keys and values may be one tensor, and may have biases.
pub(super) fn layer_tensors(names: &LayerNames<'_>, plan: &ModelPlan, layer: &LayerPlan) -> LayerTensors {
    LayerWeights {
        attention: attention_tensors(names, plan, layer),
        feed_forward: feed_forward_tensors(names, plan, layer),
    }
}

/// The tensors of a plain attention.
pub(super) fn attention_tensors(
    names: &LayerNames<'_>,
    plan: &ModelPlan,
    layer: &LayerPlan,
) -> AttentionWeights<TensorPlace, TensorPlace> {
    let AttentionPlan { n_heads, n_kv_heads, k_dim, v_dim, .. } = layer.attention;
    let n_embd = plan.n_embd;
    let n_outs = [n_heads * k_dim, n_kv_heads * k_dim, n_kv_heads * v_dim];
    let [q, k, v] = if names.has("attn_qkv.weight") {
        names.fused("attn_qkv", n_embd, n_outs)
    } else {
        let [q, k, v] = n_outs;
        [("attn_q", q), ("attn_k", k), ("attn_v", v)].map(|(name, n_out)| Projection {
            matrix: names.matrix(&format!("{name}.weight"), n_embd, n_out),
            bias: names.vector_if_there(&format!("{name}.bias"), n_out),
        })
    };
    AttentionWeights {
        norm: Some(names.vector("attn_norm.weight", n_embd)),
        q,
        k,
        v,
        q_norm: None,
        k_norm: None,
        sinks: None,
        end: BranchEnd {
            matrix: names.matrix("attn_output.weight", n_heads * v_dim, n_embd),
            bias: names.vector_if_there("attn_output.bias", n_embd),
            post_norm: None,
        },
    }
}

/// The tensors of a plain feed-forward.
fn feed_forward_tensors(
    names: &LayerNames<'_>,
    plan: &ModelPlan,
    layer: &LayerPlan,
) -> FeedForwardWeights<TensorPlace, TensorPlace> {
    let n_embd = plan.n_embd;
    match &layer.feed_forward {
        FeedForwardPlan::Gated(gated) => FeedForwardWeights::Gated(gated_tensors(names, n_embd, gated)),
        FeedForwardPlan::Experts(experts) => {
            FeedForwardWeights::Experts(expert_tensors(names, n_embd, experts))
        }
    }
}

/// The tensors of a plain gated feed-forward.
fn gated_tensors(
    names: &LayerNames<'_>,
    n_embd: usize,
    &GatedPlan { n_ff, .. }: &GatedPlan,
) -> GatedWeights<TensorPlace, TensorPlace> {
    GatedWeights {
        norm: Some(names.vector("ffn_norm.weight", n_embd)),
        gate: names.matrix("ffn_gate.weight", n_embd, n_ff),
        up: names.matrix("ffn_up.weight", n_embd, n_ff),
        end: BranchEnd { matrix: names.matrix("ffn_down.weight", n_ff, n_embd), bias: None, post_norm: None },
    }
}
