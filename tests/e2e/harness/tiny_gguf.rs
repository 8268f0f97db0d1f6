//! Tiny models of noise, whole or cut into several files, and files that are nearly such.

use std::path::{Path, PathBuf};

/// Numbers of GGUF's types of values.
const U16: u32 = 2;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Tokens: what SentencePiece needs, a space, the alphabet, and rows of the embeddings that no token names.
const LETTERS: &str = "\u{2581}abcdefghijklmnopqrstuvwxyz";
const N_EMBEDDINGS: u64 = 32;
const WIDTH: u64 = 64;
const FEED_FORWARD: u64 = 96;
const N_LAYERS: u64 = 2;

/// A GGUF file in the making.
#[derive(Clone)]
pub(crate) struct TinyGguf {
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<Tensor>,
}

#[derive(Clone)]
struct Tensor {
    name: String,
    shape: Vec<u64>,
    type_id: u32,
    bytes: Vec<u8>,
    /// Bytes of it in the file; those that are not in `bytes` are holes.
    n_bytes: u64,
}

impl TinyGguf {
    /// A llama of two layers, in floats: 26 letters, 256 positions, 2 heads on 1 KV head of 32 values each.
    pub(crate) fn llama() -> TinyGguf {
        let tokens: Vec<String> = ["<unk>", "<s>", "</s>"]
            .map(str::to_owned)
            .into_iter()
            .chain(LETTERS.chars().map(String::from))
            .collect();
        let kinds = [2, 3, 3].into_iter().chain(std::iter::repeat(1)).take(tokens.len());
        let mut model = TinyGguf { keys: Vec::new(), tensors: Vec::new() }
            .str("general.architecture", "llama")
            .str("tokenizer.ggml.model", "llama")
            .strs("tokenizer.ggml.tokens", &tokens)
            .array("tokenizer.ggml.token_type", I32, kinds.flat_map(i32::to_le_bytes).collect())
            .array("tokenizer.ggml.scores", F32, vec![0; 4 * tokens.len()])
            .float("llama.attention.layer_norm_rms_epsilon", 1e-5);
        for (rest, value) in [
            ("block_count", N_LAYERS),
            ("embedding_length", WIDTH),
            ("feed_forward_length", FEED_FORWARD),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("context_length", 256),
        ] {
            model = model.number(&format!("llama.{rest}"), value as u32);
        }
        model =
            model.noise("token_embd.weight", &[WIDTH, N_EMBEDDINGS]).noise("output_norm.weight", &[WIDTH]);
        for layer in 0..N_LAYERS {
            for (name, shape) in [
                ("attn_norm", &[WIDTH][..]),
                ("attn_q", &[WIDTH, 64]),
                ("attn_k", &[WIDTH, 32]),
                ("attn_v", &[WIDTH, 32]),
                ("attn_output", &[64, WIDTH]),
                ("ffn_norm", &[WIDTH]),
                ("ffn_gate", &[WIDTH, FEED_FORWARD]),
                ("ffn_up", &[WIDTH, FEED_FORWARD]),
                ("ffn_down", &[FEED_FORWARD, WIDTH]),
            ] {
                model = model.noise(&format!("blk.{layer}.{name}.weight"), shape);
            }
        }
        model
    }

    /// With a key, in place of one of that name.
    fn key(mut self, key: &str, kind: u32, value: &[u8]) -> TinyGguf {
        self.keys.retain(|(name, _)| name != key);
        self.keys.push((key.to_owned(), [&kind.to_le_bytes(), value].concat()));
        self
    }

    pub(crate) fn str(self, key: &str, value: &str) -> TinyGguf {
        self.key(key, STRING, &string(value))
    }

    pub(crate) fn number(self, key: &str, value: u32) -> TinyGguf {
        self.key(key, U32, &value.to_le_bytes())
    }

    fn float(self, key: &str, value: f32) -> TinyGguf {
        self.key(key, F32, &value.to_le_bytes())
    }

    fn strs(self, key: &str, values: &[String]) -> TinyGguf {
        let bytes: Vec<u8> = values.iter().flat_map(|value| string(value)).collect();
        let head = [&STRING.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        self.key(key, ARRAY, &[head, bytes].concat())
    }

    /// An array of numbers of four bytes.
    fn array(self, key: &str, kind: u32, bytes: Vec<u8>) -> TinyGguf {
        let head = [&kind.to_le_bytes()[..], &(bytes.len() as u64 / 4).to_le_bytes()].concat();
        self.key(key, ARRAY, &[head, bytes].concat())
    }

    pub(crate) fn without_key(mut self, key: &str) -> TinyGguf {
        self.keys.retain(|(name, _)| name != key);
        self
    }

    /// With a tensor of floats, around 1 in a vector and around 0 in a matrix.
    pub(crate) fn noise(self, name: &str, shape: &[u64]) -> TinyGguf {
        let mut state = name.bytes().fold(17_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let middle = if shape.len() == 1 { 1.0 } else { 0.0 };
        let n_values = shape.iter().product::<u64>();
        let bytes: Vec<u8> = (0..n_values).flat_map(|_| (middle + 0.8 * next()).to_le_bytes()).collect();
        self.tensor(name, shape, 0, bytes)
    }

    pub(crate) fn tensor(self, name: &str, shape: &[u64], type_id: u32, bytes: Vec<u8>) -> TinyGguf {
        let n_bytes = bytes.len() as u64;
        self.put(Tensor { name: name.to_owned(), shape: shape.to_vec(), type_id, bytes, n_bytes })
    }

    /// With a tensor of floats whose place in the file is a hole.
    pub(crate) fn hole(self, name: &str, shape: &[u64]) -> TinyGguf {
        let n_bytes = 4 * shape.iter().product::<u64>();
        self.put(Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            type_id: 0,
            bytes: Vec::new(),
            n_bytes,
        })
    }

    fn put(mut self, tensor: Tensor) -> TinyGguf {
        match self.tensors.iter_mut().find(|other| other.name == tensor.name) {
            Some(place) => *place = tensor,
            None => self.tensors.push(tensor),
        }
        self
    }

    /// Write it to `path`.
    pub(crate) fn write(&self, path: &Path) -> PathBuf {
        let mut head = b"GGUF".to_vec();
        head.extend(3_u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            head.extend(string(key));
            head.extend(value);
        }
        let mut places = Vec::new();
        let mut at = 0_u64;
        for tensor in &self.tensors {
            head.extend(string(&tensor.name));
            head.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().for_each(|length| head.extend(length.to_le_bytes()));
            head.extend(tensor.type_id.to_le_bytes());
            head.extend(at.to_le_bytes());
            places.push(at);
            at = (at + tensor.n_bytes).next_multiple_of(32);
        }
        head.resize(head.len().next_multiple_of(32), 0);
        let file = std::fs::File::create(path).expect("a file for the model");
        let write = |bytes: &[u8], at: u64| {
            std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).expect("room for a model");
        };
        write(&head, 0);
        for (tensor, place) in self.tensors.iter().zip(places) {
            write(&tensor.bytes, head.len() as u64 + place);
        }
        file.set_len(head.len() as u64 + at).expect("room for holes");
        path.to_owned()
    }

    /// Write it to a folder in several files called `name`, with so many tensors each and the rest in the last; the path
    /// of the first.
    pub(crate) fn write_parts(&self, folder: &Path, name: &str, n_tensors: &[usize]) -> PathBuf {
        let count = n_tensors.len() + 1;
        let path = |no: usize| folder.join(format!("{name}-{:05}-of-{count:05}.gguf", no + 1));
        let mut rest = self.tensors.clone();
        for no in 0..count {
            let n = n_tensors.get(no).copied().unwrap_or(rest.len());
            let keys = if no == 0 { self.keys.clone() } else { Vec::new() };
            TinyGguf { keys, tensors: rest.drain(..n).collect() }
                .key("split.no", U16, &(no as u16).to_le_bytes())
                .key("split.count", U16, &(count as u16).to_le_bytes())
                .key("split.tensors.count", I32, &(self.tensors.len() as i32).to_le_bytes())
                .write(&path(no));
        }
        path(0)
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
