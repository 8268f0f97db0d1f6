//! Gemma 4, text only: heads of one size in windows and of another in full layers, values normed without weights, keys of
//! full layers that may be values too, last layers that read the keys and values of earlier ones, and vectors that each
//! token has for each layer. Experts stand beside a layer's dense feed-forward.

use kernels::activations::Gate;
use kernels::attention::Ahead;
use kernels::experts::Scoring;
use kernels::kv::MAX_HEAD_DIM;
use scheduler::AttentionSpan;

use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::keys::Keys;
use super::layer_names::LayerNames;
use super::transformer::{LayerTensors, MAX_LAYERS, layer_tensors_with, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::experts::{ExpertFunction, ExpertsPlan};
use crate::plan::model_plan::{
    Activation, AttentionPlan, FeedForwardPlan, GatedPlan, KvPlan, LayerPlan, MixerPlan, ModelPlan, NormOver,
};
use crate::plan::rope_plan::{RopePairs, RopePlan};
use crate::plan::tensor_list::{TensorList, TensorPlace, ValueOrder};
use crate::plan::weights::{
    BranchEnd, ExpertsWeights, FeedForwardWeights, PerLayerEmbeddings, PerLayerWeights, SharedExpertWeights,
};

pub(super) const FAMILY: Family = Family { architecture: "gemma4", plan, tensors };

/// No vector of a token for one layer is longer.
const MAX_PER_LAYER: usize = 1 << 16;

/// How experts are chosen, and what they compute.
const EXPERTS: Defaults = Defaults {
    scoring: Scoring::Softmax,
    is_normalised: true,
    function: ExpertFunction::Gated(Gate::GeluTanh),
};

/// What the heads of windows have in common, or those of full layers.
struct Heads {
    dim: usize,
    span: AttentionSpan,
    rope_idx: usize,
}

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    keys.refuse_what_nobody_runs()?;
    let n_layers = keys.count_to("block_count", None, MAX_LAYERS)?;
    let n_embd = keys.count("embedding_length", None)?;
    let n_heads = keys.counts("attention.head_count", None, n_layers)?;
    let n_kv_heads = keys.counts("attention.head_count_kv", None, n_layers)?;
    let n_ff = keys.counts("feed_forward_length", None, n_layers)?;
    let windows = keys.bools("attention.sliding_window_pattern", n_layers)?.ok_or_else(|| {
        Cause::Malformed(
            "`gemma4.attention.sliding_window_pattern` says not of each layer what it is".to_owned(),
        )
    })?;
    let window = keys
        .window()?
        .ok_or_else(|| Cause::Malformed("`gemma4.attention.sliding_window` is missing".to_owned()))?;
    let (full, full_rot) = (head_dim(keys, "")?, n_rot(keys, "", head_dim(keys, "")?)?);
    let (windowed, windowed_rot) = (head_dim(keys, "_swa")?, n_rot(keys, "_swa", head_dim(keys, "_swa")?)?);
    let mut rope = keys.rope(RopePairs::SplitHalf, full_rot)?;
    rope.factors = keys.rope_factors(full_rot)?;
    let base = keys.positive("rope.freq_base_swa")?.unwrap_or(rope.base);
    let windowed_rope = RopePlan::plain(RopePairs::SplitHalf, windowed_rot, base);
    let kinds = [
        Heads { dim: full, span: AttentionSpan::Full, rope_idx: 0 },
        Heads { dim: windowed, span: window, rope_idx: 1 },
    ];

    let n_shared = keys.number("attention.shared_kv_layers")?.unwrap_or(0);
    let n_own = n_layers
        .checked_sub(n_shared)
        .filter(|&n| n > 0)
        .ok_or_else(|| Cause::Malformed(format!("{n_shared} of {n_layers} layers share keys and values")))?;
    let layer = |layer: usize| {
        let (n_heads, n_kv_heads) = (n_heads[layer], n_kv_heads[layer]);
        if n_heads % n_kv_heads != 0 {
            return Err(Cause::Malformed(format!("{n_heads} query heads on {n_kv_heads} KV heads")));
        }
        let Heads { dim, span, rope_idx } = kinds[usize::from(windows[layer])];
        let attention = AttentionPlan {
            n_heads,
            n_kv_heads,
            k_dim: dim,
            v_dim: dim,
            span,
            ahead: Ahead::Hidden,
            scale: 1.0,
            softcap: None,
            rope_idx: Some(rope_idx),
            norm_over: NormOver::Heads,
            temperature: None,
            kv: KvPlan::Own,
            norms_values: true,
            is_gated: false,
        };
        let feed_forward =
            FeedForwardPlan::Gated(GatedPlan { n_ff: n_ff[layer], activation: Activation::GeluTanh });
        let output_scale = keys.value_of(&scale_name(layer))?.unwrap_or(1.0);
        Ok(LayerPlan { mixer: MixerPlan::Softmax(attention), feed_forward, output_scale })
    };
    let mut layers = (0..n_layers).map(layer).collect::<Result<Vec<_>, _>>()?;
    share(&mut layers, n_own)?;

    let n_per_layer = keys.number("embedding_length_per_layer_input")?.filter(|&n| n > 0);
    if let Some(n) = n_per_layer.filter(|&n| n > MAX_PER_LAYER) {
        return Err(Cause::Malformed(format!("{n} values of a token for each layer")));
    }
    let mut plan = ModelPlan {
        architecture: keys.architecture(),
        n_vocab: keys.n_vocab(n_embd)?,
        n_embd,
        max_context: keys.count("context_length", None)?,
        norm_eps: keys.norm_eps()?,
        embedding_scale: (n_embd as f32).sqrt(),
        branch_scale: 1.0,
        logit_scale: 1.0,
        logit_softcap: keys.positive("final_logit_softcapping")?,
        n_per_layer,
        ropes: vec![rope, windowed_rope],
        layers,
        encoder: None,
        ignored_blocks: n_layers..n_layers,
    };
    put_experts(keys, &mut plan, &EXPERTS)?;
    for (layer, n_ff) in plan.layers.iter_mut().zip(n_ff) {
        if let FeedForwardPlan::Experts(experts) = &mut layer.feed_forward {
            // The dense feed-forward stays, beside the experts.
            (experts.router_scale, experts.shared_n_ff) = (1.0 / (n_embd as f32).sqrt(), Some(n_ff));
        }
    }
    Ok(plan)
}

/// Values of a head, of its key as of its value.
fn head_dim(keys: &Keys<'_>, kind: &str) -> Result<usize, Cause> {
    let of = |what: &str| keys.count_to(&format!("attention.{what}_length{kind}"), None, MAX_HEAD_DIM);
    match (of("key")?, of("value")?) {
        (k_dim, v_dim) if k_dim == v_dim => Ok(k_dim),
        (k_dim, v_dim) => Err(Cause::Unsupported(format!("keys of {k_dim} values beside values of {v_dim}"))),
    }
}

/// Values of a head that turn.
fn n_rot(keys: &Keys<'_>, kind: &str, dim: usize) -> Result<usize, Cause> {
    let n_rot = keys.count_to(&format!("rope.dimension_count{kind}"), Some(dim), dim)?;
    if n_rot % 2 != 0 {
        return Err(Cause::Malformed(format!("{n_rot} rotating values in a head, an odd number")));
    }
    Ok(n_rot)
}

/// Let all layers but the first `n_own` read the last full or the last windowed layer of these.
///
/// Where that is not the last or the one before it, files mean another layer than the reference reads, if it reads any.
fn share(layers: &mut [LayerPlan], n_own: usize) -> Result<(), Cause> {
    for layer in n_own..layers.len() {
        let (before, after) = layers.split_at_mut(n_own);
        let Some(attention) = after[layer - n_own].softmax_mut() else { continue };
        let back = if attention.span == AttentionSpan::Full { 1 } else { 2 };
        let of = n_own.checked_sub(back);
        let source = of.and_then(|of| before[of].softmax());
        let fits = source.is_some_and(|source| {
            (source.span, source.n_kv_heads, source.k_dim)
                == (attention.span, attention.n_kv_heads, attention.k_dim)
        });
        match of.filter(|_| fits) {
            Some(of) => attention.kv = KvPlan::Of(of),
            None => {
                return Err(Cause::Unsupported(format!(
                    "layer {layer} shares keys and values, and layer {n_own} - {back} has none of its kind"
                )));
            }
        }
    }
    Ok(())
}

fn scale_name(layer: usize) -> String {
    format!("blk.{layer}.layer_output_scale.weight")
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    let mut list = tensors_of(plan, gguf, layer);
    let there = |name: &String| gguf.tensor(name).is_some();
    list.in_plan.extend((0..plan.layers.len()).map(scale_name).filter(there));
    // Layers that share keys and values may have what would make their own: nothing reads it.
    let shares = |layer: &usize| plan.layers[*layer].softmax().is_some_and(|plan| plan.kv != KvPlan::Own);
    let unread = |layer: usize| ["k", "v", "k_norm"].map(|which| format!("blk.{layer}.attn_{which}.weight"));
    list.in_plan.extend((0..plan.layers.len()).filter(shares).flat_map(unread).filter(there));
    list.weights.per_layer = plan.n_per_layer.map(|n| {
        let place = |name: &str, shape: &[usize]| TensorPlace {
            name: name.to_owned(),
            shape: shape.to_vec(),
            part: None,
            order: ValueOrder::AsStored,
        };
        let n_values = n * plan.layers.len();
        PerLayerEmbeddings {
            embeddings: place("per_layer_token_embd.weight", &[n_values, plan.n_vocab]),
            projection: place("per_layer_model_proj.weight", &[plan.n_embd, n_values]),
            norm: place("per_layer_proj_norm.weight", &[n]),
        }
    });
    list
}

/// The dense feed-forward beside experts: each has norms of its own at both ends, and so has the router in front.
fn add_dense(
    names: &LayerNames<'_>,
    n_embd: usize,
    plan: &ExpertsPlan,
    tensors: &mut ExpertsWeights<TensorPlace, TensorPlace>,
) {
    let norm = |name: &str| Some(names.vector(name, n_embd));
    tensors.norm = norm("pre_ffw_norm_2.weight");
    tensors.router_norm = norm("ffn_gate_inp.scale");
    tensors.sum_norm = norm("post_ffw_norm_2.weight");
    tensors.shared = plan.shared_n_ff.map(|n_ff| SharedExpertWeights {
        norm: norm("ffn_norm.weight"),
        gate: Some(names.matrix("ffn_gate.weight", n_embd, n_ff)),
        up: names.matrix("ffn_up.weight", n_embd, n_ff),
        down: names.matrix("ffn_down.weight", n_ff, n_embd),
        weight: None,
        post_norm: norm("post_ffw_norm_1.weight"),
    });
}

fn layer(names: &LayerNames<'_>, plan: &ModelPlan, layer: &LayerPlan) -> LayerTensors {
    let mut tensors = layer_tensors_with(names, plan, layer, |attention, tensors| {
        tensors.q_norm = Some(names.vector("attn_q_norm.weight", attention.k_dim));
        tensors.end.post_norm = Some(names.vector("post_attention_norm.weight", plan.n_embd));
        match attention.kv {
            KvPlan::Own => {
                tensors.k_norm = Some(names.vector("attn_k_norm.weight", attention.k_dim));
                tensors.v.take_if(|v| v.matrix.part.is_none() && !names.has("attn_v.weight"));
            }
            KvPlan::Of(_) => (tensors.k, tensors.v) = (None, None),
        }
    });
    if let (FeedForwardPlan::Experts(experts), FeedForwardWeights::Experts(tensors)) =
        (&layer.feed_forward, &mut tensors.feed_forward)
    {
        add_dense(names, plan.n_embd, experts, tensors);
    }
    tensors.feed_forward.set_post_norm(Some(names.vector("post_ffw_norm.weight", plan.n_embd)));
    tensors.per_layer = plan.n_per_layer.map(|n| PerLayerWeights {
        gate: names.matrix("inp_gate.weight", plan.n_embd, n),
        end: BranchEnd {
            matrix: names.matrix("proj.weight", n, plan.n_embd),
            bias: None,
            post_norm: Some(names.vector("post_norm.weight", plan.n_embd)),
        },
    });
    tensors
}
