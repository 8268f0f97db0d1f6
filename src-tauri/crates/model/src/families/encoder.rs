//! What families have in common whose models read whole texts, each token seeing those behind it too.

use kernels::attention::Ahead;
use scheduler::Pooling;

use super::keys::Keys;
use super::layer_names::LayerNames;
use super::transformer::{LayerTensors, layer_tensors_with, tensors_of};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::encoder_plan::{EncoderPlan, ProjectionPlan};
use crate::plan::encoder_weights::{EntryWeights, LayerNormWeights, StreamNorms, VectorWeights};
use crate::plan::model_plan::{LayerPlan, ModelPlan};
use crate::plan::tensor_list::{TensorList, TensorPlace, ValueOrder};
use crate::plan::weights::Ending;

/// The products that may stand behind the pooling, by their tensors and keys.
const PROJECTIONS: [&str; 2] = ["dense_2", "dense_3"];

/// Makes `plan` one of an encoder, as its file says it.
///
/// # Errors
/// The file makes no single vector of a text, or asks for what no encoder does.
pub(super) fn put_encoder(keys: &Keys<'_>, plan: &mut ModelPlan) -> Result<(), Cause> {
    if keys.bool("attention.causal")? == Some(true) {
        return Err(Cause::Unsupported("an encoder whose attention is causal".to_owned()));
    }
    if plan.logit_softcap.is_some() {
        return Err(Cause::Unsupported("an encoder that caps logits".to_owned()));
    }
    if !plan.ignored_blocks.is_empty() {
        return Err(Cause::Unsupported("an encoder with blocks that guess further tokens".to_owned()));
    }
    let pooling = pooling(keys)?;
    plan.attentions_mut().for_each(|attention| attention.ahead = Ahead::Seen);
    plan.encoder = Some(EncoderPlan { pooling, projections: Vec::new() });
    Ok(())
}

/// How a text's vector is pooled.
fn pooling(keys: &Keys<'_>) -> Result<Pooling, Cause> {
    let rest = "pooling_type";
    let refused = |what: &str| Err(Cause::Unsupported(format!("`{}` {what}", keys.key(rest))));
    match keys.number(rest)? {
        Some(1) => Ok(Pooling::Mean),
        Some(2) => Ok(Pooling::First),
        Some(3) => Ok(Pooling::Last),
        Some(0) => refused("0 (none): a vector for each token, and none for the text"),
        Some(4) => refused("4 (rank): it scores pairs of texts, and gives no vectors"),
        Some(other) => refused(&format!("{other}, which is not known")),
        None => refused("is missing: a vector for each token, and none for the text"),
    }
}

/// Puts the products behind the pooling into `plan`, where the file says that it has some.
///
/// # Errors
/// They do not fit each other.
pub(super) fn put_projections(keys: &Keys<'_>, plan: &mut ModelPlan) -> Result<(), Cause> {
    let mut width = plan.n_embd;
    let mut projections = Vec::new();
    for name in PROJECTIONS {
        let size = |end: &str| keys.number(&format!("{name}_feat_{end}"));
        let (n_in, n_out) = match (size("in")?, size("out")?) {
            (Some(n_in @ 1..), Some(n_out @ 1..)) => (n_in, n_out),
            (None | Some(0), None | Some(0)) => continue,
            _ => {
                let key = keys.key(name);
                return Err(Cause::Malformed(format!("`{key}_feat_in` and `{key}_feat_out` do not fit")));
            }
        };
        if n_in != width {
            let key = keys.key(&format!("{name}_feat_in"));
            return Err(Cause::Malformed(format!("`{key}` is {n_in}, and {width} values come in")));
        }
        width = keys.count(&format!("{name}_feat_out"), Some(n_out))?;
        projections.push(ProjectionPlan { name, n_in, n_out });
    }
    if let Some(encoder) = &mut plan.encoder {
        encoder.projections = projections;
    }
    Ok(())
}

/// The tensors of an encoder of `plan`, whose layers have those that `layer` says; `norm` is its last one.
pub(super) fn encoder_tensors(
    plan: &ModelPlan,
    gguf: &Gguf,
    norm: Option<&str>,
    layer: impl Fn(&LayerNames<'_>, &ModelPlan, &LayerPlan) -> LayerTensors,
) -> TensorList {
    let mut list = tensors_of(plan, gguf, layer);
    let projections = plan.encoder.iter().flat_map(|encoder| &encoder.projections);
    let matrix = |of: &ProjectionPlan| place(&format!("{}.weight", of.name), &[of.n_in, of.n_out]);
    list.weights.ending = Ending::Vectors(VectorWeights {
        norm: norm.map(|name| place(name, &[plan.n_embd])),
        projections: projections.map(matrix).collect(),
    });
    list
}

/// What the stream of a BERT and its kin begins with, where the file has it.
pub(super) fn entry(plan: &ModelPlan, gguf: &Gguf) -> EntryWeights<TensorPlace, TensorPlace> {
    const TYPES: &str = "token_types.weight";
    let n_embd = plan.n_embd;
    let token_type = gguf.tensor(TYPES).map(|types| {
        let n_types = types.shape.get(1).copied().unwrap_or(1);
        TensorPlace { part: Some(0..n_embd), ..place(TYPES, &[n_embd, n_types]) }
    });
    let norm = |part: &str| place(&format!("token_embd_norm.{part}"), &[n_embd]);
    let norm = LayerNormWeights { weight: norm("weight"), bias: norm("bias") };
    EntryWeights { token_type, positions: None, norm }
}

/// The vectors of `n` positions.
pub(super) fn positions(plan: &ModelPlan) -> TensorPlace {
    place("position_embd.weight", &[plan.n_embd, plan.max_context])
}

/// The tensors of a layer whose branches are normed only once they have joined the stream.
pub(super) fn post_normed(names: &LayerNames<'_>, plan: &ModelPlan, layer: &LayerPlan) -> LayerTensors {
    let mut tensors = layer_tensors_with(names, plan, layer, |_, attention| attention.norm = None);
    tensors.feed_forward.set_norm(None);
    let norm = |name: &str| {
        let part = |part: &str| names.vector(&format!("{name}.{part}"), plan.n_embd);
        LayerNormWeights { weight: part("weight"), bias: part("bias") }
    };
    tensors.norms =
        Some(StreamNorms { mixer: norm("attn_output_norm"), feed_forward: norm("layer_output_norm") });
    tensors
}

fn place(name: &str, shape: &[usize]) -> TensorPlace {
    TensorPlace { name: name.to_owned(), shape: shape.to_vec(), part: None, order: ValueOrder::AsStored }
}
