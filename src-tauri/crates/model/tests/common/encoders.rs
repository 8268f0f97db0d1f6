//! Tiny encoders of random weights and llama.cpp's vectors for them: `src-tauri/dev/vectors/make_vectors.py` makes both.

use std::io::Write;
use std::path::{Path, PathBuf};

use scheduler::Pooling;

/// A tiny encoder, and what it makes of one text.
pub struct TinyEncoder {
    pub name: String,
    pub model: PathBuf,
    pub tokens: Vec<u32>,
    pub width: usize,
    /// `[n_tokens, width]`, as the reference gives them where it does not pool.
    pub of_tokens: Vec<f32>,
    /// The text's vector in each way of pooling.
    pub of_text: [(Pooling, Vec<f32>); 3],
}

/// The ways of pooling and what files call them.
pub const POOLINGS: [(Pooling, u32); 3] = [(Pooling::Mean, 1), (Pooling::First, 2), (Pooling::Last, 3)];

/// All of them.
pub fn all() -> Vec<TinyEncoder> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "gguf"));
    paths.sort();
    assert!(!paths.is_empty());
    paths.into_iter().map(read).collect()
}

fn read(model: PathBuf) -> TinyEncoder {
    let bytes = std::fs::read(model.with_extension("vec")).unwrap();
    let (words, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    let numbers: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let (n_tokens, width) = (numbers[0] as usize, numbers[1] as usize);
    let (tokens, values) = numbers[2..].split_at(n_tokens);
    assert_eq!(values.len(), (n_tokens + POOLINGS.len()) * width);
    let values: Vec<f32> = values.iter().map(|bits| f32::from_bits(*bits)).collect();
    let (of_tokens, of_text) = values.split_at(n_tokens * width);
    let vector = |i: usize| (POOLINGS[i].0, of_text[i * width..][..width].to_vec());
    let name = model.file_stem().unwrap().to_string_lossy().into_owned();
    let of_text = [0, 1, 2].map(vector);
    TinyEncoder { name, model, tokens: tokens.to_vec(), width, of_tokens: of_tokens.to_vec(), of_text }
}

/// The file with another number in its `pooling_type`.
pub fn pooled_as(model: &Path, pooling_type: u32) -> tempfile::NamedTempFile {
    let mut bytes = std::fs::read(model).unwrap();
    let key = b".pooling_type";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("a file that says its pooling");
    // The type of the value stands before it.
    bytes[at + key.len() + 4..][..4].copy_from_slice(&pooling_type.to_le_bytes());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file
}

/// How far `got` is off, as a share of the largest value that there should be; NaN where it is no number.
pub fn distance(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    let far = got.iter().zip(want).map(|(a, b)| (a - b).abs());
    // Not `max`, which would lose a NaN.
    far.fold(0.0, |worst, x| if x > worst || x.is_nan() { x } else { worst }) / scale
}

/// The cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
