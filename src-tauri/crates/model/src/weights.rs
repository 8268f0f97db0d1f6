//! A model's weights, checked against its spec and made ready for the arithmetic that multiplies with them.

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

/// Makes a file's tensors ready for one kind of arithmetic.
pub(crate) trait Pack {
    /// A matrix `[n_out, n_in]` to multiply with.
    type Matrix;
    /// A norm's weights.
    type Vector;

    /// The matrix of shape `[n_out, n_in]` that `tensor` is.
    fn matrix(
        &self,
        gguf: &Gguf,
        tensor: &TensorInfo,
        n_out: usize,
        n_in: usize,
    ) -> Result<Self::Matrix, Cause>;

    /// The vector of `values`.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector, String>;
}

/// For the CPU's kernels.
pub(crate) struct CpuPack<'a> {
    pub(crate) threads: &'a Threads,
}

impl Pack for CpuPack<'_> {
    type Matrix = Weights;
    type Vector = Vec<f32>;

    fn matrix(&self, gguf: &Gguf, tensor: &TensorInfo, n_out: usize, n_in: usize) -> Result<Weights, Cause> {
        let shape = (tensor.ty, n_out, n_in);
        // Each thread reads what it packs: there is never a second copy of a whole tensor.
        let read = |offset: usize, out: &mut [u8]| gguf.read_part(tensor, offset, out);
        let packed = Weights::pack_from(self.threads, shape, tensor.range.len(), read)?;
        packed.map_err(|error| not_packed(tensor, &error.to_string()))
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>, String> {
        Ok(values)
    }
}

/// Everything that a decoder multiplies with.
pub(crate) struct ModelWeights<M = Weights, V = Vec<f32>> {
    pub(crate) embeddings: M,
    pub(crate) layers: Vec<LayerWeights<M, V>>,
    pub(crate) output_norm: V,
    /// The output head; absent when the embeddings serve as one.
    pub(crate) output: Option<M>,
}

/// One layer; matrices are `[n_out, n_in]`.
pub(crate) struct LayerWeights<M = Weights, V = Vec<f32>> {
    pub(crate) attn_norm: V,
    pub(crate) q: M,
    pub(crate) k: M,
    pub(crate) v: M,
    /// Per head, with QK-norm.
    pub(crate) q_norm: Option<V>,
    pub(crate) k_norm: Option<V>,
    pub(crate) attn_output: M,
    pub(crate) post_attn_norm: Option<V>,
    pub(crate) ffn_norm: V,
    pub(crate) gate: M,
    pub(crate) up: M,
    pub(crate) down: M,
    pub(crate) post_ffn_norm: Option<V>,
}

impl<M, V> ModelWeights<M, V> {
    /// Pack the tensors of `gguf`, after all of them have been checked against `spec`.
    pub(crate) fn load(
        gguf: &Gguf,
        spec: &ModelSpec,
        pack: &impl Pack<Matrix = M, Vector = V>,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<ModelWeights<M, V>, Cause> {
        check(gguf, spec)?;
        let weights = ModelWeights::pack(gguf, spec, pack, progress)?;
        gguf.check_unchanged()?;
        Ok(weights)
    }

    fn pack(
        gguf: &Gguf,
        spec: &ModelSpec,
        pack: &impl Pack<Matrix = M, Vector = V>,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<ModelWeights<M, V>, Cause> {
        let bytes_total = gguf.tensors().iter().map(|tensor| tensor.range.len() as u64).sum();
        let done = LoadProgress { bytes_done: 0, bytes_total };
        let mut packer = Packer { gguf, pack, progress, done };
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
struct Packer<'a, P> {
    gguf: &'a Gguf,
    pack: &'a P,
    progress: &'a mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    done: LoadProgress,
}

impl<P: Pack> Packer<'_, P> {
    fn layer(&mut self, spec: &ModelSpec, layer: usize) -> Result<LayerWeights<P::Matrix, P::Vector>, Cause> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let mut norm_if = |wanted: bool, part: &str| -> Result<Option<P::Vector>, Cause> {
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

    fn vector(&mut self, name: &str) -> Result<P::Vector, Cause> {
        let tensor = find(self.gguf, name)?;
        let values = self.gguf.floats(&tensor.name, tensor.n_values())?;
        let packed = self.pack.vector(values).map_err(|error| not_packed(tensor, &error))?;
        self.count(tensor)?;
        Ok(packed)
    }

    fn matrix(&mut self, name: &str) -> Result<P::Matrix, Cause> {
        let tensor = find(self.gguf, name)?;
        let &[n_in, n_out] = tensor.shape.as_slice() else {
            return Err(Cause::Malformed(format!("tensor `{name}.weight` is no matrix")));
        };
        let packed = self.pack.matrix(self.gguf, tensor, n_out, n_in)?;
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

/// A tensor that the arithmetic cannot have.
pub(crate) fn not_packed(tensor: &TensorInfo, error: &str) -> Cause {
    Cause::Setup(format!("tensor `{}`: {error}", tensor.name))
}
