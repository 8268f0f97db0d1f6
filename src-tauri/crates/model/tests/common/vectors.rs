//! Reads the reference vectors that `tests/reference/make_vectors.py` writes.

use std::path::{Path, PathBuf};

pub const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
pub const GEMMA3: &str = "gemma-3-270m-q4_k_m.gguf";

/// A text and what llama.cpp computed for it.
pub struct Reference {
    pub name: String,
    pub tokens: Vec<u32>,
    pub positions: Vec<Position>,
}

/// What llama.cpp computed for one position.
pub struct Position {
    /// The best tokens and their log-probabilities, the best first.
    pub top: Vec<(u32, f32)>,
    /// Log-probability of the token that follows in the text.
    pub following: f32,
}

/// The path of a real model.
pub fn model_path(file: &str) -> PathBuf {
    let folder = std::env::var_os("SAMOVAR_TEST_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME or SAMOVAR_TEST_MODELS is set");
        Path::new(&home).join(".cache/samovar-dev/models")
    });
    let path = folder.join(file);
    assert!(path.is_file(), "{} is missing: run `make models`", path.display());
    path
}

/// The reference vectors of a file in `tests/reference/`.
pub fn references(file: &str) -> Vec<Reference> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = Reader { bytes: &bytes };
    assert_eq!(reader.take(4), b"SVEC");
    let k = reader.u32() as usize;
    let n_texts = reader.u32();
    let texts = (0..n_texts).map(|_| {
        let n = reader.u32() as usize;
        let name = String::from_utf8(reader.take(n).to_vec()).expect("a name in UTF-8");
        let n_tokens = reader.u32() as usize;
        let tokens = (0..n_tokens).map(|_| reader.u32()).collect();
        let position = |reader: &mut Reader| {
            let ids: Vec<u32> = (0..k).map(|_| reader.u32()).collect();
            let top = ids.into_iter().map(|id| (id, reader.f32())).collect();
            Position { top, following: reader.f32() }
        };
        let positions = (0..n_tokens).map(|_| position(&mut reader)).collect();
        Reference { name, tokens, positions }
    });
    texts.collect()
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(n);
        self.bytes = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn f32(&mut self) -> f32 {
        f32::from_bits(self.u32())
    }
}
