//! What loading a file comes to, known from its header alone.

use std::collections::HashSet;

use scheduler::{BATCH_TOKENS, EmbedSpec};

use super::encoder_memory::work_bytes;
use super::load::{ScaleOf, check, sizes, weight_beside};
use crate::error::{Cause, LoadError};
use crate::families;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::ModelPlan;

/// A model that can be loaded, as far as its file can tell.
#[derive(Debug)]
pub struct Outline {
    /// What it computes.
    pub plan: ModelPlan,
    /// Bytes that its weights take in memory, packed for the CPU.
    pub weights_bytes: u64,
    /// Names of the tensors that nothing is computed with, in the file's order.
    pub unread: Vec<String>,
    /// What it gives of texts, if it is an encoder; [`crate::load_embedder`] loads it then.
    pub encoder: Option<EncoderOutline>,
}

/// An encoder, as far as its file can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderOutline {
    /// What it is like to those who ask it for vectors.
    pub spec: EmbedSpec,
    /// Bytes beside its weights that reading the longest text takes, or a batch of shorter ones.
    pub work_bytes: u64,
}

/// Hold that the model in `gguf` can be loaded but for memory, and say what that comes to. No tensor is read but those
/// whose numbers are part of the plan.
///
/// # Errors
/// As [`crate::plan_of`]; a tensor is missing, has another shape than it should or a type that is not known, or the
/// file has one that no model of its family has.
pub fn outline(gguf: &Gguf) -> Result<Outline, LoadError> {
    outline_of(gguf).map_err(|cause| cause.in_file(gguf.path()))
}

fn outline_of(gguf: &Gguf) -> Result<Outline, Cause> {
    gguf.refuse_unknown()?;
    let (plan, list) = families::read(gguf)?;
    check(gguf, plan.architecture, &list)?;
    let read: HashSet<String> = list.places().into_iter().map(|place| place.name).collect();
    let is_scale = |name: &str| {
        let beside = weight_beside(gguf, name);
        beside.is_some_and(|(weight, of)| of == ScaleOf::Products && read.contains(&weight.name))
    };
    let is_read = |name: &String| read.contains(name) || list.in_plan.contains(name) || is_scale(name);
    let names = gguf.tensors().iter().map(|tensor| &tensor.name);
    let unread = names.filter(|name| !is_read(name)).cloned().collect();
    let encoder = plan.embed_spec().map(|spec| EncoderOutline {
        work_bytes: work_bytes(&plan, spec.max_tokens.max(BATCH_TOKENS)),
        spec,
    });
    Ok(Outline { plan, weights_bytes: sizes(gguf, &list)?.packed_bytes, unread, encoder })
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use kernels::weights::Weights;

    use super::*;
    use crate::cpu::load::load_open;
    use crate::testing::gguf_writer::GgufWriter;

    #[test]
    fn what_is_refused_is_refused_as_by_a_load_and_nothing_else_is() {
        let options = crate::LoadOptions {
            n_threads: 1,
            isa: kernels::isa::Isa::detect(),
            block_tokens: 16,
            kv_dtype: scheduler::KvDtype::F16,
            pool: crate::PoolSize::Blocks(4),
            ready_bytes: 0,
            precision: crate::Precision::Fast,
        };
        let tiny = || GgufWriter::tiny("llama");
        for file in [
            tiny(),
            GgufWriter::tiny("gemma3"),
            GgufWriter::tiny("nonesuch"),
            tiny().u32("llama.nonesuch", 7),
            tiny().without("blk.1.ffn_up.weight"),
            tiny().tensor("blk.1.ffn_up.weight", &[64, 95]),
            tiny().tensor("nonesuch.weight", &[64]),
            tiny().u32("llama.attention.head_count", 3),
        ] {
            let gguf = file.open();
            let loaded = load_open(&gguf, &options, &mut |_| ControlFlow::Continue(())).map(drop);
            let outlined = outline(&gguf).map(drop);
            assert_eq!(format!("{outlined:?}"), format!("{loaded:?}"));
        }
    }

    #[test]
    fn a_tensor_of_an_unknown_type_is_named() {
        let file = GgufWriter::tiny("llama").tensor_of("blk.0.attn_q.weight", &[64, 64], 300, vec![0; 64]);
        let file = file.file();
        let gguf = Gguf::open_to_describe(file.path()).unwrap();
        let error = outline(&gguf).unwrap_err();
        assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
        assert!(
            error.to_string().ends_with("tensor `blk.0.attn_q.weight` is quantised as type 300"),
            "{error}"
        );
        assert!(Gguf::open(file.path()).is_err());
    }

    #[test]
    fn packed_bytes_are_those_of_the_loaded_weights() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families");
        let file = Gguf::open(&folder.join("llama.gguf")).unwrap();
        let threads = kernels::threads::Threads::new(1);
        let mut total = 0;
        for tensor in file.tensors().iter().filter(|tensor| tensor.name != "rope_freqs.weight") {
            total += match *tensor.shape.as_slice() {
                [n_in, n_out] => {
                    let raw = file.read(tensor).unwrap();
                    Weights::pack(&threads, tensor.ty, &raw, n_out, n_in).unwrap().bytes()
                }
                _ => 4 * tensor.n_values(),
            };
        }
        let outline = outline(&file).unwrap();
        assert_eq!(outline.weights_bytes, total as u64);
        assert_eq!(outline.unread, Vec::<String>::new());
    }
}
