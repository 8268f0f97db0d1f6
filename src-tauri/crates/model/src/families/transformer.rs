//! What nearly every family has: the sizes that a file states, the plain plan of them, and the plain list of tensors.
//! A family's own file says what differs.

use kernels::attention::Ahead;
use kernels::kv::MAX_HEAD_DIM;
use scheduler::AttentionSpan;

use super::keys::Keys;
use super::layer_names::LayerNames;
use super::recurrent::recurrent_tensors;
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::experts::{ExpertFunction, ExpertsPlan};
use crate::plan::model_plan::{
    Activation, AttentionPlan, FeedForwardPlan, GatedPlan, KvPlan, LatentPlan, LayerPlan, MixerPlan,
    ModelPlan, NormOver, UngatedPlan,
};
use crate::plan::rope_plan::RopePlan;
use crate::plan::tensor_list::{TensorList, TensorPlace, ValueOrder};
use crate::plan::weights::{
    AttentionWeights, Ending, ExpertMatrices, ExpertsWeights, FeedForwardWeights, GatedWeights, HeadWeights,
    LatentExpertsWeights, LatentQueries, LatentWeights, LayerWeights, MixerWeights, ModelWeights, Projection,
    SharedExpertWeights, UngatedWeights,
};

pub(super) const MAX_LAYERS: usize = 1024;

/// The sizes of a model whose heads are all alike.
pub(super) struct Sizes {
    /// Blocks that the file has: its layers, and behind them such as guess further tokens, which are not run.
    pub(super) n_blocks: usize,
    pub(super) n_embd: usize,
    /// Values of a head that turn.
    pub(super) n_rot: usize,
    layers: Vec<LayerSizes>,
    k_dim: usize,
    v_dim: usize,
    n_vocab: usize,
    norm_eps: f32,
}

/// The sizes of one layer.
struct LayerSizes {
    n_heads: usize,
    /// 0 where it has no attention.
    n_kv_heads: usize,
    /// 0 where it has no feed-forward.
    n_ff: usize,
}

impl Sizes {
    /// Of a model each of whose layers has an attention and a feed-forward.
    pub(super) fn read(keys: &Keys<'_>) -> Result<Sizes, Cause> {
        keys.refuse_what_nobody_runs()?;
        Sizes::with_eps(keys, keys.norm_eps()?)
    }

    /// As [`Sizes::read`], of a model of any kind whose norms have this under their roots.
    pub(super) fn with_eps(keys: &Keys<'_>, norm_eps: f32) -> Result<Sizes, Cause> {
        let sizes = Sizes::read_parts(keys, norm_eps)?;
        for &LayerSizes { n_kv_heads, n_ff, .. } in &sizes.layers {
            keys.refuse_none("attention.head_count_kv", n_kv_heads)?;
            keys.refuse_none("feed_forward_length", n_ff)?;
        }
        Ok(sizes)
    }

    /// As [`Sizes::with_eps`], where a layer may lack either.
    pub(super) fn read_parts(keys: &Keys<'_>, norm_eps: f32) -> Result<Sizes, Cause> {
        let n_blocks = keys.count_to("block_count", None, MAX_LAYERS)?;
        let n_embd = keys.count("embedding_length", None)?;
        let layers = layers(keys, n_blocks)?;
        let n_heads = layers.iter().map(|layer| layer.n_heads).find(|&n_heads| n_heads > 0);
        let of_all = n_embd / n_heads.ok_or_else(|| Cause::Malformed("no layer has heads".to_owned()))?;
        let k_dim = keys.count("attention.key_length", Some(of_all))?;
        let v_dim = keys.count("attention.value_length", Some(of_all))?;
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
        Ok(Sizes { n_blocks, n_embd, n_rot, layers, k_dim, v_dim, n_vocab, norm_eps })
    }

    /// Layers that are run.
    pub(super) fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// The plan of layers that all look at everything and turn by `rope`; what a layer lacks is nothing there.
    pub(super) fn plan(
        &self,
        keys: &Keys<'_>,
        rope: RopePlan,
        activation: Activation,
    ) -> Result<ModelPlan, Cause> {
        let Sizes { k_dim, v_dim, .. } = *self;
        let scale = keys.positive("attention.scale")?.unwrap_or(1.0 / (k_dim as f32).sqrt());
        let softcap = keys.positive("attn_logit_softcapping")?;
        let attention = |&LayerSizes { n_heads, n_kv_heads, .. }: &LayerSizes| AttentionPlan {
            n_heads,
            n_kv_heads,
            k_dim,
            v_dim,
            span: AttentionSpan::Full,
            ahead: Ahead::Hidden,
            scale,
            softcap,
            rope_idx: Some(0),
            norm_over: NormOver::Heads,
            temperature: None,
            kv: KvPlan::Own,
            norms_values: false,
            is_gated: false,
        };
        let layer = |sizes: &LayerSizes| LayerPlan {
            mixer: match sizes.n_kv_heads {
                0 => MixerPlan::Nothing,
                _ => MixerPlan::Softmax(attention(sizes)),
            },
            feed_forward: match sizes.n_ff {
                0 => FeedForwardPlan::Nothing,
                n_ff => FeedForwardPlan::Gated(GatedPlan { n_ff, activation }),
            },
            output_scale: 1.0,
        };
        Ok(ModelPlan {
            architecture: keys.architecture(),
            n_vocab: self.n_vocab,
            n_embd: self.n_embd,
            max_context: keys.count("context_length", None)?,
            norm_eps: self.norm_eps,
            embedding_scale: 1.0,
            branch_scale: 1.0,
            logit_scale: 1.0,
            logit_softcap: keys.positive("final_logit_softcapping")?,
            n_per_layer: None,
            ropes: vec![rope],
            layers: self.layers.iter().map(layer).collect(),
            encoder: None,
            ignored_blocks: self.n_layers()..self.n_blocks,
        })
    }
}

/// The sizes of the layers among `n_blocks` blocks.
fn layers(keys: &Keys<'_>, n_blocks: usize) -> Result<Vec<LayerSizes>, Cause> {
    let n_ahead = keys.number("nextn_predict_layers")?.unwrap_or(0);
    let Some(n_layers) = n_blocks.checked_sub(n_ahead).filter(|&n_layers| n_layers > 0) else {
        return Err(Cause::Malformed(format!("{n_ahead} of {n_blocks} blocks guess further tokens")));
    };
    let n_heads = keys.counts_or_none("attention.head_count", None, n_blocks)?;
    let n_kv_heads = keys.counts_or_none("attention.head_count_kv", Some(n_heads[0]), n_blocks)?;
    // Files of models whose layers are all mixtures may not say how wide another feed-forward would be.
    let of_expert = keys.number("expert_feed_forward_length")?.filter(|&n_ff| n_ff > 0);
    let n_ff = keys.counts_or_none("feed_forward_length", of_expert, n_blocks)?;
    let layer = |idx: usize| {
        let (n_heads, n_kv_heads, n_ff) = (n_heads[idx], n_kv_heads[idx], n_ff[idx]);
        if n_kv_heads == 0 {
            return Ok(LayerSizes { n_heads, n_kv_heads, n_ff });
        }
        keys.refuse_none("attention.head_count", n_heads)?;
        if n_heads % n_kv_heads != 0 {
            return Err(Cause::Malformed(format!("{n_heads} query heads on {n_kv_heads} KV heads")));
        }
        Ok(LayerSizes { n_heads, n_kv_heads, n_ff })
    };
    (0..n_layers).map(layer).collect()
}

/// Give `plan`'s layers that `windows` says a window, and the rotation that turns there.
pub(super) fn add_windows(plan: &mut ModelPlan, window: AttentionSpan, rope: RopePlan, windows: &[bool]) {
    let rope_idx = plan.ropes.len();
    plan.ropes.push(rope);
    for (attention, _) in plan.attentions_mut().zip(windows).filter(|(_, is_window)| **is_window) {
        attention.span = window;
        attention.rope_idx = Some(rope_idx);
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
        order: ValueOrder::AsStored,
    };
    let has_head = gguf.tensor("output.weight").is_some();
    let head = HeadWeights {
        norm: place("output_norm.weight", &[n_embd]),
        matrix: has_head.then(|| place("output.weight", &[n_embd, n_vocab])),
    };
    let layers = plan.layers.iter().enumerate();
    let weights = ModelWeights {
        embeddings: place("token_embd.weight", &[n_embd, n_vocab]),
        layers: layers.map(|(layer_idx, of)| layer(&LayerNames::new(layer_idx, gguf), plan, of)).collect(),
        ending: Ending::Logits(head),
        entry: None,
        per_layer: None,
    };
    TensorList { weights, in_plan: in_plan(&plan.ropes), ignored_blocks: plan.ignored_blocks.clone() }
}

/// The tensors that have become factors of `ropes`.
fn in_plan(ropes: &[RopePlan]) -> Vec<String> {
    let names: &[&str] = if ropes.iter().any(|rope| rope.long.is_some()) {
        &Keys::LONG_ROPE_FACTORS
    } else if ropes.iter().any(|rope| !rope.factors.is_empty()) {
        &[Keys::ROPE_FACTORS]
    } else {
        &[]
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The tensors of a plain layer. Queries, keys and values may be one tensor, and may have biases.
pub(super) fn layer_tensors(names: &LayerNames<'_>, plan: &ModelPlan, layer: &LayerPlan) -> LayerTensors {
    layer_tensors_with(names, plan, layer, |_, _| ())
}

/// As [`layer_tensors`], of a family whose attention has what `more` puts in.
pub(super) fn layer_tensors_with(
    names: &LayerNames<'_>,
    plan: &ModelPlan,
    layer: &LayerPlan,
    more: impl FnOnce(&AttentionPlan, &mut AttentionTensors),
) -> LayerTensors {
    let mixer = match &layer.mixer {
        MixerPlan::Softmax(attention) => {
            let mut tensors = attention_tensors(names, plan.n_embd, attention);
            more(attention, &mut tensors);
            MixerWeights::Softmax(tensors)
        }
        MixerPlan::Latent(latent) => MixerWeights::Latent(latent_tensors(names, plan.n_embd, latent)),
        MixerPlan::Recurrent(recurrent) => {
            MixerWeights::Recurrent(recurrent_tensors(names, plan.n_embd, recurrent))
        }
        MixerPlan::Nothing => MixerWeights::Nothing,
    };
    let feed_forward = feed_forward_tensors(names, plan, layer);
    LayerWeights { mixer, feed_forward, per_layer: None, norms: None }
}

/// The tensors of an attention.
pub(super) type AttentionTensors = AttentionWeights<TensorPlace, TensorPlace>;

/// The tensors of a latent attention.
fn latent_tensors(
    names: &LayerNames<'_>,
    n_embd: usize,
    latent: &LatentPlan,
) -> LatentWeights<TensorPlace, TensorPlace> {
    let LatentPlan { n_heads, n_latent, n_rot, n_nope, v_dim, q_rank, .. } = *latent;
    let q_width = n_heads * (n_nope + n_rot);
    let of_heads =
        |name: &str, n_in: usize, n_out: usize| names.stacked(name, [n_in, n_out, n_heads], 0..n_out);
    LatentWeights {
        norm: names.vector("attn_norm.weight", n_embd),
        queries: match q_rank {
            None => LatentQueries::Whole(names.matrix("attn_q.weight", n_embd, q_width)),
            Some(rank) => LatentQueries::Low {
                down: names.matrix("attn_q_a.weight", n_embd, rank),
                norm: names.vector("attn_q_a_norm.weight", rank),
                up: names.matrix("attn_q_b.weight", rank, q_width),
            },
        },
        kv: names.matrix("attn_kv_a_mqa.weight", n_embd, latent.k_dim()),
        kv_norm: names.vector("attn_kv_a_norm.weight", n_latent),
        k_b: of_heads("attn_k_b.weight", n_nope, n_latent),
        v_b: of_heads("attn_v_b.weight", n_latent, v_dim),
        end: names.end("attn_output", n_heads * v_dim, n_embd),
    }
}

/// The tensors of a plain attention.
pub(super) fn attention_tensors(
    names: &LayerNames<'_>,
    n_embd: usize,
    attention: &AttentionPlan,
) -> AttentionTensors {
    let AttentionPlan { n_heads, n_kv_heads, k_dim, v_dim, is_gated, .. } = *attention;
    let n_outs = [n_heads * k_dim * if is_gated { 2 } else { 1 }, n_kv_heads * k_dim, n_kv_heads * v_dim];
    let [q, k, v] = if names.has("attn_qkv.weight") {
        names.fused("attn_qkv", n_embd, n_outs)
    } else {
        let [q, k, v] = n_outs;
        [("attn_q", q), ("attn_k", k), ("attn_v", v)]
            .map(|(name, n_out)| names.projection(name, n_embd, n_out))
    };
    AttentionWeights {
        norm: Some(names.vector("attn_norm.weight", n_embd)),
        q,
        k: Some(k),
        v: Some(v),
        q_norm: None,
        k_norm: None,
        sinks: None,
        end: names.end("attn_output", n_heads * v_dim, n_embd),
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
        FeedForwardPlan::Ungated(UngatedPlan { n_ff, .. }) => FeedForwardWeights::Ungated(UngatedWeights {
            norm: Some(names.vector("ffn_norm.weight", n_embd)),
            up: names.projection("ffn_up", n_embd, *n_ff),
            end: names.end("ffn_down", *n_ff, n_embd),
        }),
        FeedForwardPlan::Experts(experts) => {
            FeedForwardWeights::Experts(expert_tensors(names, n_embd, experts))
        }
        FeedForwardPlan::Nothing => FeedForwardWeights::Nothing,
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
        gate: names.projection("ffn_gate", n_embd, n_ff),
        up: names.projection("ffn_up", n_embd, n_ff),
        end: names.end("ffn_down", n_ff, n_embd),
    }
}

/// The tensors of a mixture.
fn expert_tensors(
    names: &LayerNames<'_>,
    n_embd: usize,
    plan: &ExpertsPlan,
) -> ExpertsWeights<TensorPlace, TensorPlace> {
    let ExpertsPlan { n_ff, function, router, shared_n_ff, n_latent, .. } = *plan;
    let (n_experts, n_taken) = (router.n_experts, n_latent.unwrap_or(n_embd));
    let is_gated = matches!(function, ExpertFunction::Gated(_));
    let each = |name: &str, n_in: usize, n_out: usize| ExpertMatrices {
        each: names.stacked(&format!("{name}.weight"), [n_in, n_out, n_experts], 0..n_out),
        scale: names.scales_if_there(name, n_experts),
        bias: names.table_if_there(&format!("{name}.bias"), [n_out, n_experts]),
    };
    const FUSED: &str = "ffn_gate_up_exps.weight";
    let (gate, up) = if is_gated && names.has(FUSED) {
        // The gate's rows come first.
        let half = |first: usize| ExpertMatrices {
            each: names.stacked(FUSED, [n_taken, 2 * n_ff, n_experts], first..first + n_ff),
            scale: names.scales_if_there("ffn_gate_up_exps", n_experts),
            bias: None,
        };
        (Some(half(0)), half(n_ff))
    } else {
        let gate = is_gated.then(|| each("ffn_gate_exps", n_taken, n_ff));
        (gate, each("ffn_up_exps", n_taken, n_ff))
    };
    let shared = shared_n_ff.map(|n_ff| SharedExpertWeights {
        norm: None,
        gate: is_gated.then(|| names.matrix("ffn_gate_shexp.weight", n_embd, n_ff)),
        up: names.matrix("ffn_up_shexp.weight", n_embd, n_ff),
        down: names.matrix("ffn_down_shexp.weight", n_ff, n_embd),
        // A vector in the file: one row.
        weight: names.vector_if_there("ffn_gate_inp_shexp.weight", n_embd),
        post_norm: None,
    });
    ExpertsWeights {
        norm: Some(names.vector("ffn_norm.weight", n_embd)),
        router_norm: None,
        router: Projection {
            matrix: names.matrix("ffn_gate_inp.weight", n_embd, n_experts),
            bias: names.vector_if_there("ffn_gate_inp.bias", n_experts),
        },
        selection_bias: names.vector_if_there("exp_probs_b.bias", n_experts),
        latent: n_latent.map(|n_latent| LatentExpertsWeights {
            down: names.matrix("ffn_latent_down.weight", n_embd, n_latent),
            up: names.matrix("ffn_latent_up.weight", n_latent, n_embd),
        }),
        gate,
        up,
        down: each("ffn_down_exps", n_ff, n_taken),
        sum_norm: None,
        shared,
        post_norm: None,
    }
}
