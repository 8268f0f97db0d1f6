//! Reads the vocabularies of the test models out of their GGUF files, as far as tests need it.

#[allow(dead_code, reason = "not every test file uses the vocabulary of bytes")]
pub(crate) mod bytes;
#[allow(dead_code, reason = "not every test file reads what the reference carries")]
pub(crate) mod reference;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use text::{TextMetadata, TextModel};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "not every test file uses both models")]
pub(crate) enum Model {
    SmolLm2,
    Gemma3,
}

/// The text side of a test model.
#[allow(dead_code, reason = "not every test file uses a test model")]
pub(crate) fn load(model: Model) -> TextModel {
    TextModel::new(metadata(model)).expect("the test models are supported")
}

/// What the file of a test model says about its vocabulary.
#[allow(dead_code, reason = "not every test file uses a test model")]
pub(crate) fn metadata(model: Model) -> TextMetadata {
    metadata_in(match model {
        Model::SmolLm2 => "SmolLM2-135M-Instruct.Q4_1.gguf",
        Model::Gemma3 => "gemma-3-270m-q4_k_m.gguf",
    })
}

/// The same of the test model with this file's name.
#[allow(dead_code, reason = "not every test file uses a test model")]
pub(crate) fn metadata_in(file: &str) -> TextMetadata {
    let dir = std::env::var_os("SAMOVAR_TEST_MODELS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache/samovar-dev/models"),
        PathBuf::from,
    );
    read(dir.join(file))
}

/// What the metadata of this GGUF file says about its vocabulary.
pub(crate) fn read(path: PathBuf) -> TextMetadata {
    let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}; run `make models`", path.display()));
    let mut values = Reader(BufReader::new(file)).metadata();
    let mut take = |key: &str| values.remove(key);
    TextMetadata {
        tokenizer_model: take("tokenizer.ggml.model").map(text).expect("a tokenizer"),
        pre: take("tokenizer.ggml.pre").map(text),
        tokens: take("tokenizer.ggml.tokens").map(texts).expect("tokens"),
        token_types: take("tokenizer.ggml.token_type").map(numbers).unwrap_or_default(),
        scores: take("tokenizer.ggml.scores").map(floats).unwrap_or_default(),
        merges: take("tokenizer.ggml.merges").map(texts).unwrap_or_default(),
        bos: take("tokenizer.ggml.bos_token_id").or(take("tokenizer.ggml.cls_token_id")).map(id),
        eos: take("tokenizer.ggml.eos_token_id").map(id),
        eot: take("tokenizer.ggml.eot_token_id").map(id),
        eom: take("tokenizer.ggml.eom_token_id").map(id),
        fim_ends: ["pad", "rep", "sep"]
            .into_iter()
            .filter_map(|role| take(&format!("tokenizer.ggml.fim_{role}_token_id")).map(id))
            .collect(),
        unk: take("tokenizer.ggml.unknown_token_id").map(id),
        separator: take("tokenizer.ggml.seperator_token_id").map(id),
        pad: take("tokenizer.ggml.padding_token_id").map(id),
        add_bos: take("tokenizer.ggml.add_bos_token").map(flag),
        add_eos: take("tokenizer.ggml.add_eos_token").map(flag),
        add_space_prefix: take("tokenizer.ggml.add_space_prefix").map(flag),
        escape_whitespaces: take("tokenizer.ggml.escape_whitespaces").map(flag),
        remove_extra_whitespaces: take("tokenizer.ggml.remove_extra_whitespaces").map(flag),
        has_charsmap: take("tokenizer.ggml.precompiled_charsmap").is_some(),
        lower_case: take("tokenizer.ggml.normalizer.lowercase").map(flag),
        strip_accents: take("tokenizer.ggml.normalizer.strip_accents").map(flag),
        chat_template: take("tokenizer.chat_template").map(text),
    }
}

enum Value {
    Number(u64),
    Float(f32),
    Text(String),
    Array(Vec<Value>),
}

fn text(value: Value) -> String {
    let Value::Text(text) = value else { panic!("not a string") };
    text
}

fn id(value: Value) -> u32 {
    let Value::Number(id) = value else { panic!("not a number") };
    u32::try_from(id).expect("an id")
}

fn flag(value: Value) -> bool {
    id(value) != 0
}

fn array(value: Value) -> Vec<Value> {
    let Value::Array(values) = value else { panic!("not an array") };
    values
}

fn texts(value: Value) -> Vec<String> {
    array(value).into_iter().map(text).collect()
}

fn numbers(value: Value) -> Vec<i32> {
    array(value).into_iter().map(|value| i32::try_from(id(value)).expect("a token type")).collect()
}

fn floats(value: Value) -> Vec<f32> {
    array(value)
        .into_iter()
        .map(|value| if let Value::Float(f) = value { f } else { panic!("no float") })
        .collect()
}

/// GGUF version 2 or 3, little-endian.
struct Reader<R>(R);

impl<R: Read> Reader<R> {
    fn metadata(mut self) -> HashMap<String, Value> {
        assert_eq!(&self.bytes::<4>(), b"GGUF");
        let _version = self.bytes::<4>();
        let _n_tensors = self.u64();
        let n = self.u64();
        (0..n)
            .map(|_| {
                let key = self.string();
                let kind = self.u32();
                (key, self.value(kind))
            })
            .collect()
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            0 | 1 | 7 => Value::Number(u64::from(self.bytes::<1>()[0])),
            2 | 3 => Value::Number(u64::from(u16::from_le_bytes(self.bytes()))),
            4 | 5 => Value::Number(u64::from(self.u32())),
            6 => Value::Float(f32::from_le_bytes(self.bytes())),
            8 => Value::Text(self.string()),
            9 => {
                let (kind, n) = (self.u32(), self.u64());
                Value::Array((0..n).map(|_| self.value(kind)).collect())
            }
            10..=12 => Value::Number(self.u64()),
            other => panic!("value kind {other}"),
        }
    }

    fn string(&mut self) -> String {
        let n = usize::try_from(self.u64()).expect("a length");
        let mut bytes = vec![0; n];
        self.0.read_exact(&mut bytes).expect("a whole string");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("a whole file");
        bytes
    }
}
