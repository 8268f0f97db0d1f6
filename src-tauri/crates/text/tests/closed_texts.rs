//! Texts that nothing continues, as encoders read them: what stands around them, and what is left of a long one.

use text::{EncodeError, EncodeLimits, TextMetadata, TextModel};

/// A `bert` vocabulary: 2 opens a text, and 3 closes it.
fn word_piece() -> TextModel {
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u{2581}play", "ing", "\u{2581}a", "\u{2581}!"];
    model(TextMetadata {
        tokenizer_model: "bert".into(),
        tokens: tokens.map(String::from).to_vec(),
        token_types: vec![3, 3, 3, 3, 1, 1, 1, 1],
        bos: Some(2),
        unk: Some(1),
        separator: Some(3),
        ..TextMetadata::default()
    })
}

/// A byte-level vocabulary: 4 opens a text, and 5 closes it.
fn byte_pair() -> TextModel {
    let tokens = ["a", "b", "ab", "abab", "<s>", "</s>"];
    model(TextMetadata {
        tokenizer_model: "gpt2".into(),
        tokens: tokens.map(String::from).to_vec(),
        token_types: vec![1, 1, 1, 1, 3, 3],
        merges: vec!["a b".into(), "ab ab".into()],
        bos: Some(4),
        eos: Some(5),
        add_bos: Some(true),
        add_eos: Some(true),
        ..TextMetadata::default()
    })
}

fn model(meta: TextMetadata) -> TextModel {
    TextModel::new(meta).expect("the vocabulary is sound")
}

const NEVER: &dyn Fn() -> bool = &|| false;

#[test]
fn a_long_text_is_cut_behind_its_first_tokens_and_closed_all_the_same() {
    for (model, text, opens, closes) in [
        (word_piece(), "playing a! play, a playing a[SEP]! a", 2, 3),
        (byte_pair(), "abababbaabab</s>abaab", 4, 5),
    ] {
        let whole = model.encode_closed(text, EncodeLimits::NONE).unwrap();
        let own = &whole[1..whole.len() - 1];
        assert_eq!((whole[0], whole[whole.len() - 1]), (opens, closes));
        for n in 3..whole.len() + 3 {
            let cut = model.encode_closed_cut(text, n, NEVER).unwrap();
            let left = own.len().min(n - 2);
            assert_eq!(cut, [&[opens], &own[..left], &[closes]].concat(), "{n} of {whole:?}");
            assert_eq!(model.cut_closed(whole.clone(), n), cut, "{n}");
        }
    }
}

#[test]
fn tokens_that_nothing_closes_are_only_cut() {
    assert_eq!(word_piece().cut_closed(vec![2, 6, 6, 6], 3), [2, 6, 6]);
    assert_eq!(word_piece().cut_closed(vec![2, 6, 6, 3], 3), [2, 6, 3]);
    assert_eq!(word_piece().cut_closed(vec![2, 6, 6, 3], 4), [2, 6, 6, 3]);
    assert_eq!(word_piece().cut_closed(vec![3, 3], 1), [3]);
    assert_eq!(word_piece().cut_closed(vec![3, 3], 0), [0; 0]);
    assert_eq!(word_piece().cut_closed(Vec::new(), 0), [0; 0]);
}

#[test]
fn no_more_of_a_text_is_encoded_than_is_of_use_and_nothing_where_nobody_waits() {
    let asked = std::cell::Cell::new(0);
    let count = || {
        asked.set(asked.get() + 1);
        false
    };
    let long = "play ".repeat(1 << 20);
    assert_eq!(word_piece().encode_closed_cut(&long, 8, &count).unwrap(), [2, 4, 4, 4, 4, 4, 4, 3]);
    assert_eq!(asked.get(), 1, "it is asked once every 16 KiB of text");
    let abandoned = word_piece().encode_closed_cut("play", 8, &|| true);
    assert_eq!(abandoned, Err(EncodeError::Abandoned));
}
