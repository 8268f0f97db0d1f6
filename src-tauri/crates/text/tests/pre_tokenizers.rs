//! Every name in `tokenizer.ggml.pre` cuts random text as the models' own tokenizers do.
//!
//! `data/make_pre_vectors.py` writes how, and says whom it asked.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;
use text::{EncodeLimits, TextMetadata, TextModel};

const VECTORS: &str = include_str!("data/pre_tokenizers.jsonl");

/// A corpus and the vocabulary that is made for it.
struct Corpus {
    lines: Vec<String>,
    tokens: Vec<String>,
    merges: Vec<String>,
    /// Bytes of each token.
    sizes: Vec<usize>,
}

/// GPT-2's character of each byte.
fn letters() -> Vec<char> {
    let is_plain = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = (0x100..).map(|code| char::from_u32(code).unwrap());
    (0..256)
        .map(|byte| char::from_u32(byte).filter(|_| is_plain(byte)).or_else(|| others.next()).unwrap())
        .collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

impl Corpus {
    fn new(head: &Value) -> Corpus {
        let (words, lines) = (strings(&head["words"]), strings(&head["corpus"]));
        let letters = letters();
        let spelt = |bytes: &[u8]| bytes.iter().map(|&byte| letters[usize::from(byte)]).collect::<String>();
        let pairs: BTreeSet<[u8; 2]> =
            lines.iter().flat_map(|line| line.as_bytes().windows(2)).map(|pair| [pair[0], pair[1]]).collect();
        let mut pairs: Vec<[u8; 2]> = pairs.into_iter().collect();
        pairs.sort_by_key(|[left, right]| (u32::from(*left) * 7919 + u32::from(*right) * 104_729) % 65_537);
        let texts: Vec<Vec<u8>> = (0..=u8::MAX)
            .map(|byte| vec![byte])
            .chain(pairs.iter().map(|pair| pair.to_vec()))
            .chain(words.into_iter().map(String::into_bytes))
            .collect();
        let merge = |[left, right]: &[u8; 2]| format!("{} {}", spelt(&[*left]), spelt(&[*right]));
        Corpus {
            merges: pairs.iter().map(merge).collect(),
            tokens: texts
                .iter()
                .map(|text| spelt(text))
                .chain(["<s>", "</s>", "<sep>"].map(String::from))
                .collect(),
            sizes: texts.iter().map(Vec::len).collect(),
            lines,
        }
    }

    fn model(&self, pre: &str) -> TextModel {
        let n = self.tokens.len();
        let special = |i: usize| u32::try_from(n - i).ok();
        let mut token_types = vec![1; n];
        token_types[n - 3..].fill(3);
        let meta = TextMetadata {
            tokenizer_model: "gpt2".into(),
            pre: Some(pre.into()),
            tokens: self.tokens.clone(),
            merges: self.merges.clone(),
            token_types,
            bos: special(3),
            eos: special(2),
            separator: special(1),
            ..TextMetadata::default()
        };
        TextModel::new(meta).unwrap()
    }

    fn lengths(&self, ids: &[u32]) -> String {
        ids.iter().map(|&id| self.sizes[id as usize].to_string()).collect()
    }
}

#[test]
fn every_name_cuts_random_text_as_the_models_own_tokenizers_do() {
    let mut rows = VECTORS.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let corpus = Corpus::new(&rows.next().unwrap());
    let mut wrong = Vec::new();
    let mut names = HashSet::new();
    for row in rows {
        let lengths = strings(&row["lengths"]);
        assert_eq!(lengths.len(), corpus.lines.len());
        let added = strings(&row["adds"]);
        for name in strings(&row["names"]) {
            let model = corpus.model(&name);
            let n = corpus.tokens.len() as u32;
            let around = model.encode_closed("a", EncodeLimits::NONE).unwrap();
            if added.is_empty() != (around[0] != n - 3) || around.len() > 2 {
                wrong.push(format!("{name}: {around:?} where {added:?} is added"));
            }
            for (text, theirs) in corpus.lines.iter().zip(&lengths) {
                let ours = corpus.lengths(&model.encode_plain(text));
                if ours != *theirs {
                    wrong.push(format!("{name} {text:?}\n  ours   {ours}\n  theirs {theirs}"));
                }
            }
            assert!(names.insert(name.clone()), "{name} is there twice");
        }
    }
    assert!(names.len() >= 70, "only {} names", names.len());
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

/// A quadratic loop would not come to the end of these: words, runs and numbers of a hundred thousand bytes.
#[test]
fn long_texts_without_a_seam_are_cut_by_every_name() {
    let mut rows = VECTORS.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let corpus = Corpus::new(&rows.next().unwrap());
    for row in rows {
        let name = strings(&row["names"]).swap_remove(0);
        let model = corpus.model(&name);
        for unit in ["a", " ", "\t ", "\n", " \n", "7", "'", "漢", "=", "a ", "e\u{301}", "'s", "1a"] {
            let text = unit.repeat((128 << 10) / unit.len());
            let ids = model.encode_plain(&text);
            let n_bytes: usize = ids.iter().map(|&id| model.token_bytes(id).len()).sum();
            assert_eq!(n_bytes, text.len(), "{name} {unit:?}");
        }
    }
}
