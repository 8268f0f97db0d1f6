//! A vocabulary of the bytes and some special tokens.

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

/// How byte-level vocabularies write a byte: printable ones as themselves, the others as characters from 256 on.
fn byte_char(byte: u8) -> char {
    let is_printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let n_before = (0..byte).filter(|&b| !is_printable(b)).count();
    char::from_u32(256 + n_before as u32).expect("68 characters from 256 on exist")
}
