//! Texts that nothing continues, as a real encoder's vocabulary opens and closes them.

mod support;

use text::{EncodeLimits, TextModel};

/// The texts of the vectors that `model` is tested with, each with its tokens by llama.cpp.
fn references() -> Vec<(String, Vec<u32>)> {
    let texts = include_str!("../../model/tests/reference/minilm.json");
    let texts: Vec<String> = serde_json::from_str(texts).expect("a list of texts");
    let (words, _) = include_bytes!("../../model/tests/reference/minilm.vec").as_chunks();
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
    let mut next = || words.next().expect("as many words as are said");
    let (n_texts, width) = (next(), next());
    assert_eq!(n_texts as usize, texts.len());
    let with_tokens = |text| {
        let n_tokens = next();
        let tokens = (0..n_tokens).map(|_| next()).collect();
        for _ in 0..width {
            next();
        }
        (text, tokens)
    };
    texts.into_iter().map(with_tokens).collect()
}

#[test]
fn minilm_has_the_references_tokens_of_every_text_between_those_that_open_and_close_it() {
    let metadata = support::metadata_in("all-MiniLM-L6-v2.f32.gguf");
    let model = TextModel::new(metadata).expect("a vocabulary that is known");
    for (text, tokens) in references() {
        let ours = model.encode_closed(&text, EncodeLimits::NONE).expect("no limits");
        assert_eq!(ours, tokens, "{text:?}");
        assert_eq!((ours[0], ours[ours.len() - 1]), (101, 102));
    }
    // What a text says of them itself is not doubled.
    let closed = model.encode_closed("[CLS] a meal [SEP]", EncodeLimits::NONE).expect("no limits");
    assert_eq!(closed.iter().filter(|&&id| id == 101 || id == 102).count(), 2, "{closed:?}");
}
