//! DeepSeek 2 and 3, GLM 4.7 Flash, Kanana 2 and their kin: latent attention, and experts behind some dense layers.

use kernels::activations::Gate;
use kernels::experts::Scoring;
use kernels::kv::MAX_HEAD_DIM;

use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::keys::Keys;
use super::transformer::{MAX_LAYERS, layer_tensors, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::experts::ExpertFunction;
use crate::plan::model_plan::{
    Activation, FeedForwardPlan, GatedPlan, LatentPlan, LayerPlan, MixerPlan, ModelPlan,
};
use crate::plan::rope_plan::{RopePairs, RopePlan, YarnPlan};
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "deepseek2", plan, tensors };

/// Rows of the embedding of GLM 4.7 Flash, whose first files do not say how experts are chosen.
const VOCABULARY_OF_GLM: usize = 154_880;

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    keys.refuse_what_nobody_runs()?;
    let n_blocks = keys.count_to("block_count", None, MAX_LAYERS)?;
    let n_ahead = keys.number("nextn_predict_layers")?.unwrap_or(0);
    let n_layers = n_blocks
        .checked_sub(n_ahead)
        .filter(|&n_layers| n_layers > 0)
        .ok_or_else(|| Cause::Malformed(format!("{n_ahead} of {n_blocks} blocks guess further tokens")))?;
    let n_embd = keys.count("embedding_length", None)?;
    let (rope, latent) = latent(keys)?;
    let n_ff = keys.count("feed_forward_length", None)?;
    let feed_forward = FeedForwardPlan::Gated(GatedPlan { n_ff, activation: Activation::Silu });
    let layer = LayerPlan { mixer: MixerPlan::Latent(latent), feed_forward, output_scale: 1.0 };
    let mut plan = ModelPlan {
        architecture: keys.architecture(),
        n_vocab: keys.n_vocab(n_embd)?,
        n_embd,
        max_context: keys.count("context_length", None)?,
        norm_eps: keys.norm_eps()?,
        embedding_scale: 1.0,
        branch_scale: 1.0,
        logit_scale: 1.0,
        logit_softcap: None,
        n_per_layer: None,
        ropes: vec![rope],
        layers: vec![layer; n_layers],
        encoder: None,
        ignored_blocks: n_layers..n_blocks,
    };
    let is_glm = plan.n_vocab == VOCABULARY_OF_GLM && [47, 48].contains(&n_blocks);
    let defaults = Defaults {
        scoring: if is_glm { Scoring::Sigmoid } else { Scoring::Softmax },
        is_normalised: false,
        function: ExpertFunction::Gated(Gate::Silu),
    };
    // Asked for here because there may be no experts.
    let n_dense = keys.number("leading_dense_block_count")?.unwrap_or(0);
    put_experts(keys, &mut plan, &defaults)?;
    if plan.layers[n_dense.min(n_layers)..].contains(&layer) {
        return Err(Cause::Malformed(format!(
            "{n_dense} of {n_layers} layers are dense, and there are no experts"
        )));
    }
    Ok(plan)
}

/// The attention that the file describes, and its rotation.
fn latent(keys: &Keys<'_>) -> Result<(RopePlan, LatentPlan), Cause> {
    let n_heads = keys.count("attention.head_count", None)?;
    let n_latent = keys.count_to("attention.kv_lora_rank", None, MAX_HEAD_DIM)?;
    let n_rot = keys.count_to("rope.dimension_count", None, MAX_HEAD_DIM - n_latent)?;
    let q_rank = keys.number("attention.q_lora_rank")?.filter(|&rank| rank > 0);
    let [Some(k_dim), Some(v_dim)] =
        [keys.number("attention.key_length_mla")?, keys.number("attention.value_length_mla")?]
    else {
        let cause = "a file in which what makes keys and values of latent vectors is one matrix, as converters wrote \
                     them until spring 2025: convert it again";
        return Err(Cause::Unsupported(cause.to_owned()));
    };
    let n_nope = k_dim.checked_sub(n_rot).filter(|&n| n > 0);
    let (Some(n_nope), true, true) = (n_nope, n_rot % 2 == 0, (1..=MAX_HEAD_DIM).contains(&v_dim)) else {
        return Err(Cause::Malformed(format!(
            "keys of {k_dim} values, of which {n_rot} turn, and values of {v_dim}"
        )));
    };
    for (rest, said) in [("head_count_kv", 1), ("key_length", n_latent + n_rot), ("value_length", n_latent)] {
        let (key, count) = (format!("attention.{rest}"), said);
        if keys.count(&key, Some(count))? != count {
            return Err(Cause::Malformed(format!("`deepseek2.{key}` is not the {count} of latent vectors")));
        }
    }
    let rope = keys.rope(RopePairs::Interleaved, n_rot)?;
    let (rope, mscale) = scores_widened(keys, rope)?;
    let scale = mscale * mscale / (k_dim as f32).sqrt();
    let temperature = keys.temperature()?;
    let plan =
        LatentPlan { n_heads, n_latent, n_rot, n_nope, v_dim, q_rank, scale, rope_idx: 0, temperature };
    Ok((rope, plan))
}

/// The rotation, and what queries and keys are each widened by for scores over more positions, the part that does not
/// turn as well: where YaRN has a multiplier of its own for that, turned values keep their size.
fn scores_widened(keys: &Keys<'_>, mut rope: RopePlan) -> Result<(RopePlan, f32), Cause> {
    let Some(YarnPlan { factor, kept, .. }) = rope.yarn else {
        return match rope.position_scale {
            1.0 => Ok((rope, 1.0)),
            _ => Err(Cause::Unsupported("latent attention beside linear scaling".to_owned())),
        };
    };
    if kept == 0.0 {
        return Err(Cause::Unsupported("latent attention beside YaRN that only interpolates".to_owned()));
    }
    let mut mscale = 1.0;
    if let Some(multiplier) = keys.positive("rope.scaling.yarn_log_multiplier")? {
        // Of other families it lessens what turned values get, and files of this one have a tenth of it.
        rope.magnitude *= YarnPlan::magnitude(factor, multiplier) / YarnPlan::magnitude(factor, 1.0);
        mscale = YarnPlan::magnitude(factor, 10.0 * multiplier);
    }
    mscale *= rope.magnitude;
    Ok((rope, mscale))
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    tensors_of(plan, gguf, layer_tensors)
}
