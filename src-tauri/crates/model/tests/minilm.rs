//! The real all-MiniLM-L6-v2 against llama.cpp's vectors of the same tokens.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod common;

use common::encoders::cosine;
use common::vectors::model_path;
use common::{embedder, vectors};
use model::Precision;

/// What `src-tauri/dev/vectors/make_minilm.py` wrote of each text of `reference/minilm.json`.
fn references() -> Vec<(Vec<u32>, Vec<f32>)> {
    let bytes = include_bytes!("reference/minilm.vec");
    let (words, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
    let mut next = || words.next().unwrap();
    let (n_texts, width) = (next(), next());
    let text = |_| {
        let n_tokens = next();
        let tokens = (0..n_tokens).map(|_| next()).collect();
        (tokens, (0..width).map(|_| f32::from_bits(next())).collect())
    };
    (0..n_texts).map(text).collect()
}

#[test]
fn minilm_has_llama_cpps_vectors_of_a_dozen_texts_alone_and_together() {
    let references = references();
    assert!(references.len() >= 12 && references.iter().any(|(tokens, _)| tokens.len() > 256));
    let mut embedder = embedder(&model_path("all-MiniLM-L6-v2.f32.gguf"), 2, Precision::Fast);
    let texts: Vec<&[u32]> = references.iter().map(|(tokens, _)| &tokens[..]).collect();
    let together = vectors(&mut *embedder, &texts, 2);
    let mut worst: f64 = 1.0;
    for ((text, (_, want)), together) in texts.iter().zip(&references).zip(&together) {
        let alone = vectors(&mut *embedder, &[text], usize::MAX).remove(0);
        assert!(alone.iter().zip(together).all(|(a, b)| a.to_bits() == b.to_bits()));
        let cosine = cosine(&alone, want);
        assert!(cosine >= 0.9999, "{} tokens: a cosine of {cosine}", text.len());
        worst = worst.min(cosine);
    }
    println!("{} texts, the lowest cosine is {worst:.7}", texts.len());
    // The first two say the same in other words, the third says something else.
    assert!(cosine(&together[0], &together[1]) > 0.8 && cosine(&together[0], &together[2]) < 0.2);
}
