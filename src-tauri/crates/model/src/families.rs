//! The families of models that are known: each is one file here, and one line in [`FAMILIES`].

mod delta;
mod encoder;
mod experts;
pub(crate) mod family;
mod keys;
mod layer_names;
mod mamba2;
mod recurrent;
mod rope_keys;
mod transformer;

mod bert;
mod deepseek2;
mod gemma3;
mod gemma4;
mod gemma_embedding;
mod gpt_oss;
mod granite;
mod granitehybrid;
mod lfm2;
mod lfm2moe;
mod llama;
mod mistral3;
mod nemotron_h;
mod nemotron_h_moe;
mod nomic_bert;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen35;
mod qwen35moe;
mod qwen3moe;
mod qwen3next;
mod smollm3;

use crate::error::{Cause, LoadError};
use crate::file::gguf::Gguf;
use crate::plan::model_plan::ModelPlan;
use crate::plan::tensor_list::TensorList;

use family::Family;
use keys::Keys;

static FAMILIES: [&Family; 24] = [
    &llama::FAMILY,
    &gemma3::FAMILY,
    &gemma4::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen3moe::FAMILY,
    &qwen35::FAMILY,
    &qwen35moe::FAMILY,
    &qwen3next::FAMILY,
    &mistral3::FAMILY,
    &smollm3::FAMILY,
    &granite::FAMILY,
    &granitehybrid::FAMILY,
    &phi3::FAMILY,
    &olmo2::FAMILY,
    &gpt_oss::FAMILY,
    &deepseek2::FAMILY,
    &lfm2::FAMILY,
    &lfm2moe::FAMILY,
    &nemotron_h::FAMILY,
    &nemotron_h_moe::FAMILY,
    &bert::FAMILY,
    &nomic_bert::FAMILY,
    &gemma_embedding::FAMILY,
];

/// What the model in `gguf` computes.
///
/// # Errors
/// Its architecture or one of its options is not supported, or keys are missing or contradict each other.
pub fn plan_of(gguf: &Gguf) -> Result<ModelPlan, LoadError> {
    read(gguf).map(|(plan, _)| plan).map_err(|cause| cause.in_file(gguf.path()))
}

/// What the model in `gguf` computes, and the tensors that it needs for that.
pub(crate) fn read(gguf: &Gguf) -> Result<(ModelPlan, TensorList), Cause> {
    let wanted = gguf.metadata().str("general.architecture")?;
    let family = FAMILIES.into_iter().find(|family| family.architecture == wanted);
    let family = family.ok_or_else(|| {
        let wanted: String = wanted.chars().take(60).collect();
        Cause::Unsupported(format!("architecture {wanted:?}; {} are", names()))
    })?;
    let keys = Keys::new(gguf, family.architecture);
    let plan = (family.plan)(&keys)?;
    keys.refuse_unread()?;
    let tensors = (family.tensors)(&plan, gguf);
    Ok((plan, tensors))
}

/// The known architectures as in a sentence.
fn names() -> String {
    let names: Vec<String> = FAMILIES.iter().map(|family| format!("`{}`", family.architecture)).collect();
    let (last, others) = names.split_last().expect("there are families");
    format!("{} and {last}", others.join(", "))
}

#[cfg(test)]
mod tests;
