//! The vocabularies that the reference's source package carries give its tokens, line by line.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{read, reference};
use text::{TextError, TextModel};

/// Vocabularies, and those of them that come with lines and their tokens.
const N_VOCABULARIES: usize = 19;
const N_WITH_VECTORS: usize = 15;

fn vocabularies() -> Vec<PathBuf> {
    reference::files("vocabularies", ".gguf", N_VOCABULARIES)
}

fn name(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

fn beside(path: &Path, end: &str) -> PathBuf {
    path.with_extension(format!("gguf{end}"))
}

/// The lines of a vocabulary with the tokens that the reference says they have.
fn vectors(path: &Path) -> Vec<(String, Vec<u32>)> {
    let texts = std::fs::read_to_string(beside(path, ".inp")).unwrap();
    let tokens = std::fs::read_to_string(beside(path, ".out")).unwrap();
    let texts: Vec<&str> = texts
        .strip_suffix("\n__ggml_vocab_test__\n")
        .unwrap_or(&texts)
        .split("\n__ggml_vocab_test__\n")
        .collect();
    let tokens: Vec<&str> = tokens.lines().collect();
    assert_eq!(texts.len(), tokens.len(), "{}", path.display());
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    texts.into_iter().zip(tokens).map(|(text, line)| (text.to_owned(), ids(line))).collect()
}

#[test]
fn every_line_of_the_references_has_its_tokens() {
    let with_vectors: Vec<PathBuf> =
        vocabularies().into_iter().filter(|path| beside(path, ".inp").exists()).collect();
    assert_eq!(with_vectors.len(), N_WITH_VECTORS);
    let mut wrong = Vec::new();
    for path in reference::tenth(with_vectors) {
        let model = TextModel::new(read(path.clone())).unwrap_or_else(|e| panic!("{}: {e}", name(&path)));
        let vectors = vectors(&path);
        assert!(vectors.len() >= 40, "{} has {} lines", name(&path), vectors.len());
        for (text, theirs) in vectors {
            let ours = model.encode_plain(&text);
            if ours != theirs {
                wrong.push(format!("{} {text:?}\n  ours   {ours:?}\n  theirs {theirs:?}", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}

/// Tokens that end an answer to llama.cpp and not here, like `</s>` where it is HTML: padding.
const NO_ENDS: &[&str] = &["<PAD>", "[PAD]"];

/// FNV-1a over ids as little-endian numbers.
fn hash(ids: &[u32]) -> String {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

/// What `data/make_vocabulary_vectors.py` wrote of a vocabulary: the tokens that end an answer, and a hash a text.
fn written(name: &str) -> (Vec<u32>, String) {
    let rows = include_str!("data/vocabularies.jsonl").lines();
    let mut rows = rows.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let row = rows.find(|row| row["name"] == name).unwrap_or_else(|| panic!("nothing is written of {name}"));
    (serde_json::from_value(row["ends"].clone()).unwrap(), row["hashes"].as_str().unwrap().to_owned())
}

fn corpus() -> Vec<String> {
    let head = include_str!("data/pre_tokenizers.jsonl").lines().next().unwrap();
    serde_json::from_value(serde_json::from_str::<Value>(head).unwrap()["corpus"].take()).unwrap()
}

#[test]
fn random_text_has_the_references_tokens_in_every_vocabulary_and_comes_back_as_it_streams() {
    let corpus = corpus();
    let mut wrong = Vec::new();
    for path in reference::tenth(vocabularies()) {
        let name = name(&path);
        let meta = read(path.clone());
        let kind = meta.tokenizer_model.clone();
        let (tokens, types) = (meta.tokens.clone(), meta.token_types.clone());
        let (eos, adds_space) = (meta.eos, kind == "llama" && meta.add_space_prefix != Some(false));
        let model = match TextModel::new(meta) {
            Ok(model) => model,
            Err(TextError::Unsupported(why)) if kind == "t5" && why.contains("\"t5\"") => continue,
            Err(e) => panic!("{name}: {e}"),
        };
        let (ends, hashes) = written(name);
        let ends: Vec<u32> = ends
            .into_iter()
            .filter(|&id| {
                let text = tokens[id as usize].as_str();
                let is_html = text == "</s>" && types[id as usize] != 3;
                Some(id) == eos || !(is_html || NO_ENDS.contains(&text))
            })
            .collect();
        let ours: Vec<u32> = (0..tokens.len() as u32).filter(|&id| model.is_end_of_generation(id)).collect();
        if ours != ends {
            wrong.push(format!("{name}: {ours:?} end an answer, and to llama.cpp {ends:?}"));
        }
        assert_eq!(hashes.len(), 8 * corpus.len());
        for (i, text) in corpus.iter().enumerate() {
            let ids = model.encode_plain(text);
            if hash(&ids) != hashes[8 * i..][..8] {
                wrong.push(format!("{name} {text:?}: {ids:?}"));
            }
            let mut detokenizer = model.detokenizer(&[]);
            let mut told: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
            told.push_str(&detokenizer.finish());
            let wanted = if adds_space { format!(" {text}") } else { text.clone() };
            if kind != "bert" && told != wanted {
                wrong.push(format!("{name} {text:?} comes back as {told:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
}

/// A loop that is quadratic anywhere would not come to the end of these.
#[test]
fn a_megabyte_without_a_seam_is_encoded_by_every_kind() {
    let one_of_each = ["gemma-4", "bert-bge", "llama-spm", "qwen35"]
        .map(|name| reference::folder("vocabularies").join(format!("ggml-vocab-{name}.gguf")));
    for path in one_of_each {
        let model = TextModel::new(read(path.clone())).unwrap();
        for unit in [
            "a",
            " ",
            "\n",
            "7",
            "=-",
            "漢",
            "é",
            "a ",
            "x\n",
            "\u{301}",
            "👩\u{200d}",
            "\u{2581}",
            "unaffable",
        ] {
            let text = unit.repeat((1 << 20) / unit.len());
            let ids = model.encode_plain(&text);
            assert!(model.fewest_tokens([text.as_str()]) <= ids.len(), "{} {unit:?}", name(&path));
            let n_bytes: usize = ids.iter().map(|&id| model.token_bytes(id).len()).sum();
            let is_whole = n_bytes >= text.replace('\u{2581}', " ").len();
            assert!(is_whole || name(&path).contains("bert"), "{} {unit:?}", name(&path));
        }
    }
}
