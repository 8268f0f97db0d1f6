//! What a model computes, read from GGUF metadata: everything by which one decoder serves several architectures.

use kernels::kv::MAX_HEAD_DIM;
use scheduler::{AttentionSpan, LayerCache, ModelCacheSpec};

use crate::error::{Cause, LoadError};
use crate::gguf::Gguf;
use crate::metadata::{Array, Metadata, MetadataError, Strings, Value};

/// The architectures that are supported, by their GGUF names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `llama`: Llama 2 and 3, SmolLM2, Mistral and their kin.
    Llama,
    /// `gemma3`: Gemma 3, text only.
    Gemma3,
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Architecture::Llama => "llama",
            Architecture::Gemma3 => "gemma3",
        })
    }
}

/// Which function gates the feed-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// GELU in its tanh form.
    GeluTanh,
}

/// Which values of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// 2i and 2i + 1, as `llama` files are permuted.
    Interleaved,
    /// i and i + half, "neox".
    SplitHalf,
}

/// How fast the pairs of a head rotate with the position.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Pair i turns by `base^(-2i / n_rot)` a position.
    pub base: f32,
    /// Positions are multiplied by this first (linear scaling; 1 = none).
    pub position_scale: f32,
    /// Each pair's frequency is divided by its factor (Llama 3 scaling); empty = all 1.
    pub factors: Vec<f32>,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSpec {
    /// How far back its attention looks.
    pub span: AttentionSpan,
    /// Index into [`ModelSpec::ropes`].
    pub rope_idx: usize,
}

/// A decoder-only transformer, described.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Where it comes from.
    pub architecture: Architecture,
    /// Rows of the embedding and of the output head.
    pub n_vocab: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward.
    pub n_ff: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Values in a query's or key's head.
    pub k_dim: usize,
    /// Values in a value's head.
    pub v_dim: usize,
    /// Positions that the model was trained for.
    pub max_context: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f32,
    /// Embeddings are multiplied by this.
    pub embedding_scale: f32,
    /// Attention scores are multiplied by this.
    pub attention_scale: f32,
    /// Attention scores go through `cap · tanh(score / cap)`.
    pub attention_softcap: Option<f32>,
    /// Logits go through `cap · tanh(logit / cap)`.
    pub logit_softcap: Option<f32>,
    /// The gate of the feed-forward.
    pub activation: Activation,
    /// Queries and keys are normed head by head before they rotate.
    pub qk_norm: bool,
    /// The outputs of attention and feed-forward are normed before they join the residual stream.
    pub post_norms: bool,
    /// How rotary pairs lie in a head.
    pub rope_pairs: RopePairs,
    /// Values of a head that rotate, from its start.
    pub n_rot: usize,
    /// The rotations in use.
    pub ropes: Vec<RopeSpec>,
    /// One entry a layer.
    pub layers: Vec<LayerSpec>,
}

const MAX_LAYERS: usize = 1024;
/// No count of a model's shape is larger; keeps products of two within 64 bits.
const MAX_WIDTH: usize = 1 << 30;

impl ModelSpec {
    /// The spec of the model in `gguf`.
    ///
    /// # Errors
    /// The architecture or one of its options is not supported, or keys are missing or contradict each other.
    pub fn of(gguf: &Gguf) -> Result<ModelSpec, LoadError> {
        ModelSpec::read(gguf).map_err(|cause| cause.in_file(gguf.path()))
    }

    pub(crate) fn read(gguf: &Gguf) -> Result<ModelSpec, Cause> {
        let metadata = gguf.metadata();
        let (architecture, name) = match metadata.str("general.architecture")? {
            "llama" => (Architecture::Llama, "llama"),
            "gemma3" => (Architecture::Gemma3, "gemma3"),
            other => {
                let other: String = other.chars().take(60).collect();
                return Err(Cause::Unsupported(format!("architecture {other:?}; `llama` and `gemma3` are")));
            }
        };
        let keys = Keys { metadata, name };
        keys.refuse_what_we_do_not_run()?;

        let n_layers = keys.count("block_count", None, MAX_LAYERS)?;
        let n_embd = keys.count("embedding_length", None, MAX_WIDTH)?;
        let n_heads = keys.count("attention.head_count", None, MAX_WIDTH)?;
        let n_kv_heads = keys.count("attention.head_count_kv", Some(n_heads), MAX_WIDTH)?;
        if n_heads % n_kv_heads != 0 {
            return Err(Cause::Malformed(format!("{n_heads} query heads on {n_kv_heads} KV heads")));
        }
        let k_dim = keys.count("attention.key_length", Some(n_embd / n_heads), MAX_WIDTH)?;
        let v_dim = keys.count("attention.value_length", Some(n_embd / n_heads), MAX_WIDTH)?;
        let n_rot = keys.count("rope.dimension_count", Some(k_dim), k_dim)?;
        if k_dim.max(v_dim) > MAX_HEAD_DIM {
            return Err(Cause::Unsupported(format!(
                "heads of {k_dim} and {v_dim} values; up to {MAX_HEAD_DIM} are"
            )));
        }
        if n_rot % 2 != 0 {
            return Err(Cause::Malformed(format!("{n_rot} rotating values in a head, an odd number")));
        }
        let embeddings = gguf
            .tensor("token_embd.weight")
            .ok_or_else(|| Cause::Malformed("tensor `token_embd.weight` is missing".to_owned()))?;
        let n_vocab = match *embeddings.shape.as_slice() {
            [n_in, n_vocab] if n_in == n_embd => n_vocab,
            _ => {
                let shape = &embeddings.shape;
                return Err(Cause::Malformed(format!(
                    "token_embd.weight of shape {shape:?}, width {n_embd}"
                )));
            }
        };
        let n_names = metadata.find_strings("tokenizer.ggml.tokens")?.map_or(0, Strings::len);
        if n_names > n_vocab {
            return Err(Cause::Malformed(format!(
                "{n_names} tokens in the vocabulary, {n_vocab} embeddings"
            )));
        }
        let norm_eps = keys.positive("attention.layer_norm_rms_epsilon")?;
        let norm_eps = norm_eps.ok_or_else(|| {
            Cause::Malformed(format!("metadata key `{name}.attention.layer_norm_rms_epsilon` is missing"))
        })?;

        let mut spec = ModelSpec {
            architecture,
            n_vocab,
            n_embd,
            n_ff: keys.count("feed_forward_length", None, MAX_WIDTH)?,
            n_heads,
            n_kv_heads,
            k_dim,
            v_dim,
            max_context: keys.count("context_length", None, MAX_WIDTH)?,
            norm_eps,
            embedding_scale: 1.0,
            attention_scale: keys.positive("attention.scale")?.unwrap_or(1.0 / (k_dim as f32).sqrt()),
            attention_softcap: keys.positive("attn_logit_softcapping")?,
            logit_softcap: keys.positive("final_logit_softcapping")?,
            activation: Activation::Silu,
            qk_norm: false,
            post_norms: false,
            rope_pairs: RopePairs::Interleaved,
            n_rot,
            ropes: vec![keys.rope(gguf, n_rot)?],
            layers: Vec::new(),
        };
        if architecture == Architecture::Gemma3 {
            spec.embedding_scale = (n_embd as f32).sqrt();
            spec.activation = Activation::GeluTanh;
            spec.qk_norm = true;
            spec.post_norms = true;
            spec.rope_pairs = RopePairs::SplitHalf;
            // The 27B model scales by its width per head, which is not its head's size.
            if n_layers == 62 {
                spec.attention_scale = 1.0 / ((n_embd / n_heads) as f32).sqrt();
            }
        }
        spec.layers = keys.layers(&mut spec.ropes, architecture, n_layers)?;
        Ok(spec)
    }

    /// The shape of the model's KV cache.
    pub fn cache_spec(&self) -> ModelCacheSpec {
        let layer = |layer: &LayerSpec| LayerCache {
            n_kv_heads: self.n_kv_heads,
            k_dim: self.k_dim,
            v_dim: self.v_dim,
            span: layer.span,
        };
        ModelCacheSpec {
            layers: self.layers.iter().map(layer).collect(),
            max_context: self.max_context,
            n_vocab: self.n_vocab,
        }
    }
}

/// The metadata keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    name: &'static str,
}

impl Keys<'_> {
    fn key(&self, rest: &str) -> String {
        format!("{}.{rest}", self.name)
    }

    fn refuse_what_we_do_not_run(&self) -> Result<(), Cause> {
        let n_experts = self.metadata.find_usize(&self.key("expert_count"))?.unwrap_or(0);
        if n_experts > 0 {
            return Err(Cause::Unsupported(format!("a mixture of {n_experts} experts")));
        }
        if self.metadata.find_bool(&self.key("attention.causal"))? == Some(false) {
            return Err(Cause::Unsupported("attention that is not causal".to_owned()));
        }
        Ok(())
    }

    /// A count from 1 to `max`: one number, or an array that says the same number for every layer.
    fn count(&self, rest: &str, default: Option<usize>, max: usize) -> Result<usize, Cause> {
        let key = self.key(rest);
        let found = if let Some(Value::Array(_)) = self.metadata.get(&key) {
            let all = self.metadata.find_usizes(&key)?.unwrap_or_default();
            if all.iter().any(|n| *n != all[0]) {
                return Err(Cause::Unsupported(format!("`{key}` differs from layer to layer")));
            }
            all.first().copied()
        } else {
            self.metadata.find_usize(&key)?
        };
        let count = found.or(default).ok_or(MetadataError::Missing { key: key.clone() })?;
        if !(1..=max).contains(&count) {
            return Err(Cause::Malformed(format!("`{key}` is {count}, not from 1 to {max}")));
        }
        Ok(count)
    }

    /// A positive float; 0 means that there is none.
    fn positive(&self, rest: &str) -> Result<Option<f32>, Cause> {
        let key = self.key(rest);
        match self.metadata.find_f32(&key)? {
            Some(value) if value < 0.0 => Err(Cause::Malformed(format!("`{key}` is {value}"))),
            Some(0.0) | None => Ok(None),
            some => Ok(some),
        }
    }

    /// The rotation of layers that look at everything.
    fn rope(&self, gguf: &Gguf, n_rot: usize) -> Result<RopeSpec, Cause> {
        let factor = self.positive("rope.scaling.factor")?.or(self.positive("rope.scale_linear")?);
        let position_scale = match self.metadata.find_str(&self.key("rope.scaling.type"))? {
            Some("none") => 1.0,
            None | Some("linear") => 1.0 / factor.unwrap_or(1.0),
            Some(other) => {
                let other: String = other.chars().take(60).collect();
                return Err(Cause::Unsupported(format!("rope scaling {other:?}")));
            }
        };
        let mut factors = Vec::new();
        if gguf.tensor("rope_freqs.weight").is_some() {
            factors = gguf.floats("rope_freqs.weight", n_rot / 2)?;
            if factors.iter().any(|&factor| !factor.is_normal()) {
                return Err(Cause::Malformed("tensor `rope_freqs.weight` divides by nothing".to_owned()));
            }
        }
        let base = self.positive("rope.freq_base")?.unwrap_or(10_000.0);
        Ok(RopeSpec { base, position_scale, factors })
    }

    /// Which layers look through a window, and how those rotate.
    fn layers(
        &self,
        ropes: &mut Vec<RopeSpec>,
        architecture: Architecture,
        n_layers: usize,
    ) -> Result<Vec<LayerSpec>, Cause> {
        let full = LayerSpec { span: AttentionSpan::Full, rope_idx: 0 };
        let Some(tokens) =
            self.metadata.find_usize(&self.key("attention.sliding_window"))?.filter(|&n| n > 0)
        else {
            return Ok(vec![full; n_layers]);
        };
        let mut window = LayerSpec { span: AttentionSpan::Window { tokens }, rope_idx: 0 };
        if architecture == Architecture::Llama {
            return Ok(vec![window; n_layers]);
        }
        // Windows of Gemma 3 rotate by a base of their own and are never stretched.
        let base = self.positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
        let local = RopeSpec { base, position_scale: 1.0, factors: ropes[0].factors.clone() };
        ropes.push(local);
        window.rope_idx = 1;

        let key = self.key("attention.sliding_window_pattern");
        if let Some(Value::Array(Array::Bool(windows))) = self.metadata.get(&key) {
            if windows.len() != n_layers {
                let n = windows.len();
                return Err(Cause::Malformed(format!("`{key}` has {n} entries for {n_layers} layers")));
            }
            return Ok(windows.iter().map(|&is_window| if is_window { window } else { full }).collect());
        }
        let period = self.count("attention.sliding_window_pattern", Some(6), MAX_WIDTH)?;
        Ok((0..n_layers).map(|layer| if layer % period < period - 1 { window } else { full }).collect())
    }
}

impl From<MetadataError> for Cause {
    fn from(error: MetadataError) -> Cause {
        Cause::Malformed(error.to_string())
    }
}

#[cfg(test)]
mod tests;
