//! The ids of a corpus of awkward lines equal llama.cpp's, for both test models.
//!
//! `data/make_token_vectors.py` writes the reference ids.

mod support;

use support::{Model, load};

/// Checks every line of the corpus with special tokens parsed and without.
fn check(model: Model, vectors: &str) {
    let text_model = load(model);
    let corpus: Vec<String> = include_str!("data/corpus.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON string on every line"))
        .collect();
    assert!(corpus.len() >= 200, "the corpus has shrunk to {} lines", corpus.len());
    assert_eq!(vectors.lines().count(), corpus.len(), "run data/make_token_vectors.py");

    let bos = match model {
        Model::SmolLm2 => None,
        Model::Gemma3 => Some(2),
    };
    let mut wrong = Vec::new();
    for (text, line) in corpus.iter().zip(vectors.lines()) {
        let (parsed, plain) = line.split_once('|').unwrap_or((line, line));
        let ids = |ids: &str| -> Vec<u32> {
            ids.split_whitespace().map(|id| id.parse().expect("ids in decimal")).collect()
        };
        let mut with_bos = ids(parsed);
        if let Some(bos) = bos
            && with_bos.first() != Some(&bos)
        {
            with_bos.insert(0, bos);
        }
        let told = text_model.raw_text(&text_model.encode_raw(text));
        let told = String::from_utf8_lossy(&told);
        // To SentencePiece the lower block is a space.
        let wanted = match model {
            Model::SmolLm2 => text.clone(),
            Model::Gemma3 => text.strip_prefix("<bos>").unwrap_or(text).replace('\u{2581}', " "),
        };
        if told != wanted {
            wrong.push(format!("{text:?} comes back as {told:?}"));
        }
        for (what, ours, theirs) in [
            ("parsed", text_model.encode_raw(text), with_bos),
            ("plain", text_model.encode_plain(text), ids(plain)),
        ] {
            if ours != theirs {
                wrong.push(format!("{what} {text:?}\n  ours   {ours:?}\n  theirs {theirs:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), 3 * corpus.len(), wrong.join("\n"));
}

#[test]
fn ids_of_the_byte_pair_model_equal_llama_cpps_on_every_line() {
    check(Model::SmolLm2, include_str!("data/smollm2.tokens"));
}

#[test]
fn ids_of_the_sentence_piece_model_equal_llama_cpps_on_every_line() {
    check(Model::Gemma3, include_str!("data/gemma3.tokens"));
}
