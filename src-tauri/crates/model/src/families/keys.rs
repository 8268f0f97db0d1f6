//! The metadata keys of one architecture: read with bounds, and none of them passed over in silence.

use std::cell::RefCell;
use std::collections::HashSet;

use scheduler::AttentionSpan;

use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::file::metadata::{Array, Metadata, MetadataError, Strings, Value};

/// No count of a model's shape is larger; keeps products of two within 64 bits.
const MAX_WIDTH: usize = 1 << 30;

/// Keys that change nothing of what a family here computes, or nothing as long as another key does not say so.
const SAY_NOTHING: [&str; 10] = [
    "vocab_size",
    "tensor_data_layout",
    // What is made of hidden vectors: logits are not, and who makes them asks for it.
    "pooling_type",
    "classifier.output_labels",
    // Of a norm that decoders here do not have; who has it asks for it.
    "attention.layer_norm_epsilon",
    // Of experts: who has some asks for them.
    "expert_used_count",
    "expert_shared_count",
    "expert_feed_forward_length",
    "interleave_moe_layer_step",
    // How the scaling was come by; who takes it for more asks for it.
    "rope.scaling.finetuned",
];

/// What pictures become, which is not read here.
const OF_PICTURES: [&str; 2] = ["mm.", "vision."];

/// The keys that stand under an architecture's name.
pub(crate) struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'static str,
    /// The keys that were asked for.
    read: RefCell<HashSet<String>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(gguf: &'a Gguf, architecture: &'static str) -> Keys<'a> {
        Keys { gguf, architecture, read: RefCell::default() }
    }

    pub(super) fn architecture(&self) -> &'static str {
        self.architecture
    }

    pub(super) fn gguf(&self) -> &'a Gguf {
        self.gguf
    }

    fn metadata(&self) -> &'a Metadata {
        self.gguf.metadata()
    }

    /// The whole name of a key, which counts as read.
    pub(super) fn key(&self, rest: &str) -> String {
        let key = format!("{}.{rest}", self.architecture);
        self.read.borrow_mut().insert(key.clone());
        key
    }

    /// A count from 1 to what keeps products within bounds; see [`Keys::count_to`].
    pub(super) fn count(&self, rest: &str, default: Option<usize>) -> Result<usize, Cause> {
        self.count_to(rest, default, MAX_WIDTH)
    }

    /// A count from 1 to `max`.
    pub(super) fn count_to(&self, rest: &str, default: Option<usize>, max: usize) -> Result<usize, Cause> {
        let key = self.key(rest);
        let count = self.metadata().find_usize(&key)?.or(default);
        let count = count.ok_or_else(|| MetadataError::Missing { key: key.clone() })?;
        checked(&key, count, max)
    }

    /// A count for each of `n_blocks` blocks, as [`Keys::count`]: one number for all, or an array.
    pub(super) fn counts(
        &self,
        rest: &str,
        default: Option<usize>,
        n_blocks: usize,
    ) -> Result<Vec<usize>, Cause> {
        let counts = self.counts_or_none(rest, default, n_blocks)?;
        counts.iter().try_for_each(|&count| self.refuse_none(rest, count))?;
        Ok(counts)
    }

    /// As [`Keys::counts`], where a block may have none: 0.
    pub(super) fn counts_or_none(
        &self,
        rest: &str,
        default: Option<usize>,
        n_blocks: usize,
    ) -> Result<Vec<usize>, Cause> {
        let key = self.key(rest);
        if !matches!(self.metadata().get(&key), Some(Value::Array(_))) {
            let is_none = self.metadata().find_usize(&key)? == Some(0);
            let count = if is_none { 0 } else { self.count(rest, default)? };
            return Ok(vec![count; n_blocks]);
        }
        let all = self.metadata().find_usizes(&key)?.unwrap_or_default();
        if all.len() != n_blocks {
            let n = all.len();
            return Err(Cause::Malformed(format!("`{key}` has {n} entries for {n_blocks} layers")));
        }
        all.into_iter()
            .map(|count| if count == 0 { Ok(0) } else { checked(&key, count, MAX_WIDTH) })
            .collect()
    }

    /// Hold that a block's `count`, one of [`Keys::counts_or_none`], is not 0.
    pub(super) fn refuse_none(&self, rest: &str, count: usize) -> Result<(), Cause> {
        checked(&self.key(rest), count, MAX_WIDTH).map(drop)
    }

    /// A whole number.
    pub(super) fn number(&self, rest: &str) -> Result<Option<usize>, Cause> {
        Ok(self.metadata().find_usize(&self.key(rest))?)
    }

    /// A finite float.
    pub(super) fn float(&self, rest: &str) -> Result<Option<f32>, Cause> {
        Ok(self.metadata().find_f32(&self.key(rest))?)
    }

    /// A text.
    pub(super) fn str(&self, rest: &str) -> Result<Option<&'a str>, Cause> {
        Ok(self.metadata().find_str(&self.key(rest))?)
    }

    /// A truth value.
    pub(super) fn bool(&self, rest: &str) -> Result<Option<bool>, Cause> {
        Ok(self.metadata().find_bool(&self.key(rest))?)
    }

    /// The value of the tensor called `name` of one value, if the file has it.
    pub(super) fn value_of(&self, name: &str) -> Result<Option<f32>, Cause> {
        let there = self.gguf.tensor(name).map(|_| self.gguf.floats(name, 1)).transpose()?;
        match there.as_deref() {
            Some(&[value]) if value.is_finite() => Ok(Some(value)),
            Some(_) => Err(Cause::Malformed(format!("tensor `{name}` holds no number"))),
            None => Ok(None),
        }
    }

    /// A positive float; 0 means that there is none.
    pub(super) fn positive(&self, rest: &str) -> Result<Option<f32>, Cause> {
        let key = self.key(rest);
        match self.metadata().find_f32(&key)? {
            Some(value) if value < 0.0 => Err(Cause::Malformed(format!("`{key}` is {value}"))),
            Some(0.0) | None => Ok(None),
            some => Ok(some),
        }
    }

    /// A truth value for each of `n_blocks` blocks, if the key is there and holds such.
    pub(super) fn bools(&self, rest: &str, n_blocks: usize) -> Result<Option<Vec<bool>>, Cause> {
        let key = self.key(rest);
        let Some(Value::Array(Array::Bool(all))) = self.metadata().get(&key) else { return Ok(None) };
        if all.len() != n_blocks {
            let n = all.len();
            return Err(Cause::Malformed(format!("`{key}` has {n} entries for {n_blocks} layers")));
        }
        Ok(Some(all.clone()))
    }

    /// The window of layers that have one, if the file says how wide it is.
    pub(super) fn window(&self) -> Result<Option<AttentionSpan>, Cause> {
        let found = self.metadata().find_usize(&self.key("attention.sliding_window"))?;
        Ok(found.filter(|&n| n > 0).map(|tokens| AttentionSpan::Window { tokens }))
    }

    /// Which of `n_blocks` blocks look through the window: the file says so block by block, or of how many the last one
    /// does not, which is `period` where it says nothing.
    pub(super) fn windows(&self, n_blocks: usize, period: usize) -> Result<Vec<bool>, Cause> {
        const PATTERN: &str = "attention.sliding_window_pattern";
        if let Some(windows) = self.bools(PATTERN, n_blocks)? {
            return Ok(windows);
        }
        let period = self.count(PATTERN, Some(period))?;
        Ok((0..n_blocks).map(|block| block % period < period - 1).collect())
    }

    /// What is added under the root of every norm.
    pub(super) fn norm_eps(&self) -> Result<f32, Cause> {
        self.eps("attention.layer_norm_rms_epsilon")
    }

    /// As [`Keys::norm_eps`], of layer norms.
    pub(super) fn layer_norm_eps(&self) -> Result<f32, Cause> {
        self.eps("attention.layer_norm_epsilon")
    }

    fn eps(&self, rest: &str) -> Result<f32, Cause> {
        let missing = || MetadataError::Missing { key: self.key(rest) };
        Ok(self.positive(rest)?.ok_or_else(missing)?)
    }

    /// The rows of embeddings of width `n_embd`, of which each name of the vocabulary needs one.
    pub(super) fn n_vocab(&self, n_embd: usize) -> Result<usize, Cause> {
        let embeddings = self
            .gguf
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
        let n_names = self.metadata().find_strings("tokenizer.ggml.tokens")?.map_or(0, Strings::len);
        if n_names > n_vocab {
            return Err(Cause::Malformed(format!(
                "{n_names} tokens in the vocabulary, {n_vocab} embeddings"
            )));
        }
        Ok(n_vocab)
    }

    /// Refuse what no family here computes, in words that say more than a key's name.
    pub(super) fn refuse_what_nobody_runs(&self) -> Result<(), Cause> {
        if self.metadata().find_bool(&self.key("attention.causal"))? == Some(false) {
            return Err(Cause::Unsupported("attention that is not causal".to_owned()));
        }
        Ok(())
    }

    /// Refuse keys of the architecture that nobody asked for: what they mean would be missing from what is computed.
    pub(super) fn refuse_unread(&self) -> Result<(), Cause> {
        let prefix = format!("{}.", self.architecture);
        let read = self.read.borrow();
        for (key, value) in self.metadata().iter() {
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            let says_nothing = SAY_NOTHING.contains(&rest)
                || OF_PICTURES.iter().any(|prefix| rest.starts_with(prefix))
                || is_neutral(rest, value);
            if !says_nothing && !read.contains(key) {
                if rest == "expert_count" {
                    let n_experts = self.metadata().find_usize(key)?.unwrap_or(0);
                    return Err(Cause::Unsupported(format!("a mixture of {n_experts} experts")));
                }
                let shown: String = key.chars().take(80).collect();
                let shown = shown.escape_debug();
                return Err(Cause::Unsupported(format!(
                    "metadata key `{shown}`, which no {} model here knows",
                    self.architecture
                )));
            }
        }
        Ok(())
    }
}

/// `count`, if it is from 1 to `max`.
fn checked(key: &str, count: usize, max: usize) -> Result<usize, Cause> {
    if !(1..=max).contains(&count) {
        return Err(Cause::Malformed(format!("`{key}` is {count}, not from 1 to {max}")));
    }
    Ok(count)
}

/// Whether a value says that there is nothing of what its key is about.
fn is_neutral(rest: &str, value: &Value) -> bool {
    let number = match *value {
        Value::Bool(value) => return !value,
        Value::U8(n) => f64::from(n),
        Value::I8(n) => f64::from(n),
        Value::U16(n) => f64::from(n),
        Value::I16(n) => f64::from(n),
        Value::U32(n) => f64::from(n),
        Value::I32(n) => f64::from(n),
        Value::F32(n) => f64::from(n),
        Value::U64(n) => n as f64,
        Value::I64(n) => n as f64,
        Value::F64(n) => n,
        Value::Str(_) | Value::NotText | Value::Array(_) => return false,
    };
    number == 0.0 || (number == 1.0 && (rest.ends_with("scale") || rest.ends_with("factor")))
}
