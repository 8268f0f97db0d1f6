//! A model's weights, checked against its spec and packed for the kernels.

use std::collections::HashSet;
use std::ops::ControlFlow;

use kernels::threads::Threads;
use kernels::weights::Weights;

use crate::error::Cause;
use crate::gguf::{Gguf, TensorInfo};
use crate::spec::ModelSpec;

/// How much of a model's tensors has been made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of tensors packed so far.
    pub bytes_done: u64,
    /// Bytes of tensors in all.
    pub bytes_total: u64,
}

/// Everything that a decoder multiplies with.
pub(crate) struct ModelWeights {
    pub(crate) embeddings: Weights,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) output_norm: Vec<f32>,
    /// The output head; absent when the embeddings serve as one.
    pub(crate) output: Option<Weights>,
}

/// One layer; matrices are `[n_out, n_in]`.
pub(crate) struct LayerWeights {
    pub(crate) attn_norm: Vec<f32>,
    pub(crate) q: Weights,
    pub(crate) k: Weights,
    pub(crate) v: Weights,
    /// Per head, with QK-norm.
    pub(crate) q_norm: Option<Vec<f32>>,
    pub(crate) k_norm: Option<Vec<f32>>,
    pub(crate) attn_output: Weights,
    pub(crate) post_attn_norm: Option<Vec<f32>>,
    pub(crate) ffn_norm: Vec<f32>,
    pub(crate) gate: Weights,
    pub(crate) up: Weights,
    pub(crate) down: Weights,
    pub(crate) post_ffn_norm: Option<Vec<f32>>,
}

impl ModelWeights {
    /// Pack the tensors of `gguf`, after all of them have been checked against `spec`.
    pub(crate) fn load(
        gguf: &Gguf,
        spec: &ModelSpec,
        threads: &Threads,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<ModelWeights, Cause> {
        check(gguf, spec)?;
        let bytes_total = gguf.tensors().iter().map(|tensor| tensor.range.len() as u64).sum();
        let done = LoadProgress { bytes_done: 0, bytes_total };
        let mut packer = Packer { gguf, threads, progress, done };
        Ok(ModelWeights {
            embeddings: packer.matrix("token_embd")?,
            layers: (0..spec.layers.len())
                .map(|layer| packer.layer(spec, layer))
                .collect::<Result<_, _>>()?,
            output_norm: packer.vector("output_norm")?,
            output: gguf.tensor("output.weight").map(|_| packer.matrix("output")).transpose()?,
        })
    }
}

/// Holds that `gguf` has the tensors that `spec` asks for, in their shapes, and no others: a tensor that nobody
/// reads would mean another computation than ours.
fn check(gguf: &Gguf, spec: &ModelSpec) -> Result<(), Cause> {
    let mut wanted = wanted(spec);
    let optional = [("output", vec![spec.n_embd, spec.n_vocab]), ("rope_freqs", vec![spec.n_rot / 2])];
    wanted.extend(
        optional
            .map(|(name, shape)| (format!("{name}.weight"), shape))
            .into_iter()
            .filter(|(name, _)| gguf.tensor(name).is_some()),
    );
    for (name, shape) in &wanted {
        gguf.tensor_of(name, shape)?;
    }
    let known: HashSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    match gguf.tensors().iter().find(|tensor| !known.contains(tensor.name.as_str())) {
        Some(tensor) => {
            let name = tensor.name.escape_debug();
            Err(Cause::Unsupported(format!("tensor `{name}` has no place in a {} model", spec.architecture)))
        }
        None => Ok(()),
    }
}

/// The tensors that a model of `spec` must have, with their shapes as GGUF writes them.
fn wanted(spec: &ModelSpec) -> Vec<(String, Vec<usize>)> {
    let ModelSpec { n_embd, n_ff, n_vocab, .. } = *spec;
    let (q, k, v) = (spec.n_heads * spec.k_dim, spec.n_kv_heads * spec.k_dim, spec.n_kv_heads * spec.v_dim);
    let mut wanted = vec![
        ("token_embd.weight".to_owned(), vec![n_embd, n_vocab]),
        ("output_norm.weight".to_owned(), vec![n_embd]),
    ];
    for layer in 0..spec.layers.len() {
        let mut add = |name: &str, shape: &[usize]| wanted.push((layer_tensor(layer, name), shape.to_vec()));
        add("attn_norm", &[n_embd]);
        add("attn_q", &[n_embd, q]);
        add("attn_k", &[n_embd, k]);
        add("attn_v", &[n_embd, v]);
        add("attn_output", &[spec.n_heads * spec.v_dim, n_embd]);
        add("ffn_norm", &[n_embd]);
        add("ffn_gate", &[n_embd, n_ff]);
        add("ffn_up", &[n_embd, n_ff]);
        add("ffn_down", &[n_ff, n_embd]);
        if spec.qk_norm {
            add("attn_q_norm", &[spec.k_dim]);
            add("attn_k_norm", &[spec.k_dim]);
        }
        if spec.post_norms {
            add("post_attention_norm", &[n_embd]);
            add("post_ffw_norm", &[n_embd]);
        }
    }
    wanted
}

fn layer_tensor(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}.weight")
}

/// Packs tensor after tensor and says how far it is.
struct Packer<'a> {
    gguf: &'a Gguf,
    threads: &'a Threads,
    progress: &'a mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    done: LoadProgress,
}

impl Packer<'_> {
    fn layer(&mut self, spec: &ModelSpec, layer: usize) -> Result<LayerWeights, Cause> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let mut norm_if = |wanted: bool, part: &str| -> Result<Option<Vec<f32>>, Cause> {
            if wanted { self.vector(&name(part)).map(Some) } else { Ok(None) }
        };
        let q_norm = norm_if(spec.qk_norm, "attn_q_norm")?;
        let k_norm = norm_if(spec.qk_norm, "attn_k_norm")?;
        let post_attn_norm = norm_if(spec.post_norms, "post_attention_norm")?;
        let post_ffn_norm = norm_if(spec.post_norms, "post_ffw_norm")?;
        Ok(LayerWeights {
            attn_norm: self.vector(&name("attn_norm"))?,
            q: self.matrix(&name("attn_q"))?,
            k: self.matrix(&name("attn_k"))?,
            v: self.matrix(&name("attn_v"))?,
            q_norm,
            k_norm,
            attn_output: self.matrix(&name("attn_output"))?,
            post_attn_norm,
            ffn_norm: self.vector(&name("ffn_norm"))?,
            gate: self.matrix(&name("ffn_gate"))?,
            up: self.matrix(&name("ffn_up"))?,
            down: self.matrix(&name("ffn_down"))?,
            post_ffn_norm,
        })
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>, Cause> {
        let tensor = find(self.gguf, name)?;
        let values = self.gguf.floats(&tensor.name, tensor.n_values())?;
        self.count(tensor)?;
        Ok(values)
    }

    fn matrix(&mut self, name: &str) -> Result<Weights, Cause> {
        let tensor = find(self.gguf, name)?;
        let &[n_in, n_out] = tensor.shape.as_slice() else {
            return Err(Cause::Malformed(format!("tensor `{name}.weight` is no matrix")));
        };
        let raw = self.gguf.data(tensor);
        let packed = Weights::pack(self.threads, tensor.ty, raw, n_out, n_in);
        let packed = packed.map_err(|error| Cause::Setup(format!("tensor `{name}.weight`: {error}")))?;
        self.gguf.release(tensor);
        self.count(tensor)?;
        Ok(packed)
    }

    fn count(&mut self, tensor: &TensorInfo) -> Result<(), Cause> {
        self.done.bytes_done += tensor.range.len() as u64;
        match (self.progress)(self.done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Cause::Cancelled),
        }
    }
}

fn find<'a>(gguf: &'a Gguf, name: &str) -> Result<&'a TensorInfo, Cause> {
    let missing = || Cause::Malformed(format!("tensor `{name}.weight` is missing"));
    gguf.tensor(&format!("{name}.weight")).ok_or_else(missing)
}
