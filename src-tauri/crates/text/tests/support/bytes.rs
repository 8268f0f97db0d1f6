//! A vocabulary of the bytes and some special tokens.

use std::collections::BTreeSet;

use text::{TextMetadata, TextModel};

/// A model whose vocabulary is the 256 bytes and `special` tokens, each with its kind in the GGUF's list; byte 0 ends
/// its answers.
pub(crate) fn model(template: &str, special: &[(&str, i32)]) -> TextModel {
    model_ending(template, special, None)
}

/// The same, whose answers this one of the special tokens ends.
#[allow(dead_code, reason = "not every test that uses the bytes needs it")]
pub(crate) fn model_ending(template: &str, special: &[(&str, i32)], end: Option<usize>) -> TextModel {
    let mut tokens: Vec<String> = (0..=255u8).map(byte_char).map(String::from).collect();
    // A vocabulary of its kind has a merge.
    tokens.push("th".to_owned());
    let mut token_types = vec![1; 257];
    for (text, kind) in special {
        tokens.push((*text).to_owned());
        token_types.push(*kind);
    }
    TextModel::new(TextMetadata {
        tokenizer_model: "gpt2".to_owned(),
        eos: Some(end.map_or(0, |end| 257 + end as u32)),
        tokens,
        token_types,
        merges: vec!["t h".to_owned()],
        add_bos: Some(false),
        chat_template: Some(template.to_owned()),
        ..TextMetadata::default()
    })
    .expect("the vocabulary of bytes is sound")
}

/// The same with the special tokens that a template's source speaks of; `</s>` ends its answers.
#[allow(dead_code, reason = "not every test that uses the bytes needs it")]
pub(crate) fn model_of(template: &str) -> TextModel {
    let special = special_in(template);
    let special: Vec<(&str, i32)> = special.iter().map(|text| (text.as_str(), 3)).collect();
    let end = special.iter().position(|(text, _)| *text == "</s>");
    model_ending(template, &special, end)
}

/// Texts in a template's source that are tokens in its model's vocabulary, as far as their form tells that.
fn special_in(source: &str) -> BTreeSet<String> {
    let mut special: BTreeSet<String> = ["<s>", "</s>"].map(str::to_owned).into();
    for (open, close) in [("<|", ">"), ("<｜", ">"), ("<", "|>"), ("[", "]"), ("<", "_of_turn>")] {
        for (at, _) in source.match_indices(open) {
            let rest = &source[at..];
            let Some(end) = rest.find(close) else { continue };
            let token = &rest[..end + close.len()];
            let is_word = |text: &str| {
                text.chars().all(|c| {
                    c.is_alphanumeric() || matches!(c, '_' | '/' | '▁' | '|' | '｜' | '<' | '>' | ':')
                })
            };
            let inside = token.trim_matches(['[', ']']);
            let is_name =
                open != "[" || inside.chars().all(|c| c.is_ascii_uppercase() || matches!(c, '_' | '/'));
            if token.len() > 3 && is_word(inside) && is_name && token[1..].matches('<').count() == 0 {
                special.insert(token.to_owned());
            }
        }
    }
    special
}

/// How byte-level vocabularies write a byte: printable ones as themselves, the others as characters from 256 on.
fn byte_char(byte: u8) -> char {
    let is_printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let n_before = (0..byte).filter(|&b| !is_printable(b)).count();
    char::from_u32(256 + n_before as u32).expect("68 characters from 256 on exist")
}
