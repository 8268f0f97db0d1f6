//! Writes small GGUF files for tests.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::file::gguf::Gguf;

/// A GGUF file in the making.
#[derive(Clone)]
pub(crate) struct GgufWriter {
    pub(crate) version: u32,
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

impl GgufWriter {
    pub(crate) fn new() -> GgufWriter {
        GgufWriter { version: 3, keys: Vec::new(), tensors: Vec::new() }
    }

    /// A tiny model of `architecture` with 2 layers, width 64, 2 heads on 1 KV head, all weights F32.
    pub(crate) fn tiny(architecture: &str) -> GgufWriter {
        let mut file = GgufWriter::new().str("general.architecture", architecture);
        let key = |rest: &str| format!("{architecture}.{rest}");
        for (rest, value) in [
            ("block_count", 2),
            ("embedding_length", 64),
            ("feed_forward_length", 96),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("attention.key_length", 32),
            ("attention.value_length", 32),
            ("context_length", 256),
        ] {
            file = file.u32(&key(rest), value);
        }
        file = file.f32(&key("attention.layer_norm_rms_epsilon"), 1e-5);
        file = file.tensor("token_embd.weight", &[64, 40]).tensor("output_norm.weight", &[64]);
        for layer in 0..2 {
            let mut shapes: Vec<(&str, &[u64])> = vec![
                ("attn_norm", &[64]),
                ("attn_q", &[64, 64]),
                ("attn_k", &[64, 32]),
                ("attn_v", &[64, 32]),
                ("attn_output", &[64, 64]),
                ("ffn_norm", &[64]),
                ("ffn_gate", &[64, 96]),
                ("ffn_up", &[64, 96]),
                ("ffn_down", &[96, 64]),
            ];
            let more: &[(&str, &[u64])] = match architecture {
                "gemma3" => &[
                    ("attn_q_norm", &[32]),
                    ("attn_k_norm", &[32]),
                    ("post_attention_norm", &[64]),
                    ("post_ffw_norm", &[64]),
                ],
                "qwen3" => &[("attn_q_norm", &[32]), ("attn_k_norm", &[32])],
                _ => &[],
            };
            shapes.extend(more);
            for (name, shape) in shapes {
                file = file.tensor(&format!("blk.{layer}.{name}.weight"), shape);
            }
        }
        file
    }

    pub(crate) fn raw(mut self, key: &str, type_id: u32, value: &[u8]) -> GgufWriter {
        let value = [&type_id.to_le_bytes(), value].concat();
        self.keys.retain(|(name, _)| name != key);
        self.keys.push((key.to_owned(), value));
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> GgufWriter {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> GgufWriter {
        self.raw(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn str(self, key: &str, value: &str) -> GgufWriter {
        self.raw(key, 8, &string(value))
    }

    pub(crate) fn strs(self, key: &str, values: &[&str]) -> GgufWriter {
        let mut bytes = 8_u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| bytes.extend(string(value)));
        self.raw(key, 9, &bytes)
    }

    /// A key once more, whatever is there.
    pub(crate) fn again(mut self, key: &str) -> GgufWriter {
        let twice = self.keys.iter().find(|(name, _)| name == key).cloned().expect("a key to repeat");
        self.keys.push(twice);
        self
    }

    /// An F32 tensor of pseudo-random values, vectors around 1 and matrices around 0; replaces one of the same name.
    pub(crate) fn tensor(self, name: &str, shape: &[u64]) -> GgufWriter {
        let n = shape.iter().product::<u64>() as usize;
        let mut state = name.bytes().fold(17_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let middle = if shape.len() == 1 { 1.0 } else { 0.0 };
        let values: Vec<u8> = (0..n).flat_map(|_| (middle + 0.8 * next()).to_le_bytes()).collect();
        self.tensor_of(name, shape, 0, values)
    }

    pub(crate) fn tensor_of(mut self, name: &str, shape: &[u64], type_id: u32, bytes: Vec<u8>) -> GgufWriter {
        self = self.without(name);
        self.tensors.push((name.to_owned(), shape.to_vec(), type_id, bytes));
        self
    }

    pub(crate) fn without(mut self, tensor: &str) -> GgufWriter {
        self.tensors.retain(|(name, ..)| name != tensor);
        self
    }

    pub(crate) fn without_key(mut self, key: &str) -> GgufWriter {
        self.keys.retain(|(name, _)| name != key);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            file.extend(string(key));
            file.extend(value);
        }
        let mut data = Vec::new();
        for (name, shape, type_id, bytes) in &self.tensors {
            data.resize(data.len().next_multiple_of(32), 0);
            file.extend(string(name));
            file.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|length| file.extend(length.to_le_bytes()));
            file.extend(type_id.to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(data);
        file
    }

    /// The same in several files, with so many tensors each, as `gguf-split` cuts a model.
    pub(crate) fn split(&self, n_tensors: &[usize]) -> Vec<GgufWriter> {
        assert_eq!(n_tensors.iter().sum::<usize>(), self.tensors.len());
        let mut tensors = self.tensors.iter().cloned();
        let mut part = |(no, &n): (usize, &usize)| {
            let keys = if no == 0 { self.keys.clone() } else { Vec::new() };
            let part =
                GgufWriter { version: self.version, keys, tensors: tensors.by_ref().take(n).collect() };
            part.raw("split.no", 2, &(no as u16).to_le_bytes())
                .raw("split.count", 2, &(n_tensors.len() as u16).to_le_bytes())
                .raw("split.tensors.count", 5, &(self.tensors.len() as i32).to_le_bytes())
        };
        n_tensors.iter().enumerate().map(&mut part).collect()
    }

    pub(crate) fn n_tensors(&self) -> usize {
        self.tensors.len()
    }

    pub(crate) fn file(&self) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("a temporary file");
        file.write_all(&self.bytes()).expect("room for a temporary file");
        file
    }

    pub(crate) fn open(&self) -> Gguf {
        Gguf::open(self.file().path()).expect("a sound GGUF")
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
