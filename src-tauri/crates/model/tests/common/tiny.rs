//! Tiny models of random weights and llama.cpp's logits for them: `src-tauri/dev/vectors/make_vectors.py` makes both.

use std::path::{Path, PathBuf};

/// A tiny model.
pub struct Tiny {
    pub name: String,
    pub model: PathBuf,
    pub tokens: Vec<u32>,
    pub n_vocab: usize,
    /// `[n_tokens, n_vocab]`
    logits: Vec<f32>,
}

impl Tiny {
    pub fn logits(&self, position: usize) -> &[f32] {
        &self.logits[position * self.n_vocab..][..self.n_vocab]
    }

    /// How far `got` is off at a position, as a share of the largest logit there; NaN where it is no number.
    pub fn distance(&self, position: usize, got: &[f32]) -> f32 {
        let want = self.logits(position);
        assert_eq!(got.len(), want.len());
        let scale = want.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        let far = got.iter().zip(want).map(|(a, b)| (a - b).abs());
        // Not `max`, which would lose a NaN.
        far.fold(0.0, |worst, x| if x > worst || x.is_nan() { x } else { worst }) / scale
    }
}

/// The folder of the files.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families")
}

/// All of them, of every family.
pub fn all() -> Vec<Tiny> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "gguf"));
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(model: PathBuf) -> Tiny {
    let bytes = std::fs::read(model.with_extension("vec")).unwrap();
    let (words, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    let numbers: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let (n_tokens, n_vocab) = (numbers[0] as usize, numbers[1] as usize);
    let (tokens, logits) = numbers[2..].split_at(n_tokens);
    assert_eq!(logits.len(), n_tokens * n_vocab);
    let name = model.file_stem().unwrap().to_string_lossy().into_owned();
    let logits = logits.iter().map(|bits| f32::from_bits(*bits)).collect();
    Tiny { name, model, tokens: tokens.to_vec(), n_vocab, logits }
}
