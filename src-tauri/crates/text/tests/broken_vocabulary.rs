//! A vocabulary that makes no sense is refused with a reason, never with a panic.

use text::{TextError, TextMetadata, TextModel};

fn sentence_piece() -> TextMetadata {
    let tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab", "\u{2581}"].map(String::from).to_vec();
    TextMetadata {
        tokenizer_model: "llama".into(),
        token_types: vec![2, 3, 3, 1, 1, 1, 1],
        scores: vec![0.0, 0.0, 0.0, -2.0, -2.0, -1.0, -3.0],
        tokens,
        ..TextMetadata::default()
    }
}

fn byte_pair() -> TextMetadata {
    TextMetadata {
        tokenizer_model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: ["a", "b", "ab", "Ġ"].map(String::from).to_vec(),
        merges: vec!["a b".into()],
        ..TextMetadata::default()
    }
}

#[test]
fn small_sound_vocabularies_work() {
    let model = TextModel::new(sentence_piece()).unwrap();
    assert_eq!(model.encode_raw("ab a"), [1, 6, 5, 6, 3], "BOS and a space in front, as such models want it");
    assert_eq!(model.raw_text(&[1, 6, 5, 6, 3]), b"ab a");
    assert_eq!(
        model.raw_text(&[1, 6, 6, 5, 2, 6, 3]),
        b" ab</s>a",
        "the space that is put in front is no text"
    );
    assert_eq!(model.encode_plain("é"), [6, 0, 0], "no byte tokens: unknown, once for each byte");
    let model = TextModel::new(byte_pair()).unwrap();
    assert_eq!(model.encode_raw("abba ab"), [2, 1, 0, 3, 2]);
    assert_eq!(model.encode_raw("axb"), [0, 1], "a byte without a token is left out, as llama.cpp does");
}

#[test]
fn what_is_missing_or_out_of_range_is_named() {
    let check = |meta: TextMetadata, reason: &str| {
        let error = TextModel::new(meta).unwrap_err();
        assert!(matches!(error, TextError::Vocabulary(_) | TextError::Unsupported(_)), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    };
    check(TextMetadata::default(), "\"\"");
    check(TextMetadata { tokenizer_model: "bert".into(), ..byte_pair() }, "\"bert\"");
    check(TextMetadata { pre: Some("klingon".into()), ..byte_pair() }, "\"klingon\"");
    check(TextMetadata { tokens: Vec::new(), ..sentence_piece() }, "0 tokens");
    check(TextMetadata { scores: vec![0.0], ..sentence_piece() }, "1 scores for 7 tokens");
    check(TextMetadata { token_types: vec![1, 1], ..byte_pair() }, "2 token types for 4 tokens");
    check(TextMetadata { merges: Vec::new(), ..byte_pair() }, "no merges");
    check(TextMetadata { merges: vec!["ab".into()], ..byte_pair() }, "merge 0");
    check(TextMetadata { merges: vec!["a b".into(), "a c".into()], ..byte_pair() }, "merge 1");
    check(TextMetadata { merges: vec!["b a".into()], ..byte_pair() }, "\"ba\"");
}

#[test]
fn strange_values_do_no_harm() {
    let out_of_range = Some(u32::MAX);
    let meta = TextMetadata {
        bos: out_of_range,
        eos: out_of_range,
        eot: out_of_range,
        unk: out_of_range,
        pad: out_of_range,
        token_types: vec![-1, 99, 3, 1, i32::MAX, 1, 1],
        scores: vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0, f32::MIN],
        ..sentence_piece()
    };
    let model = TextModel::new(meta).unwrap();
    assert!(!model.encode_raw("ab <s>ba").is_empty());

    let twice = TextMetadata {
        tokens: ["a", "a", "", "a"].map(String::from).to_vec(),
        merges: vec![" a a".into()],
        ..byte_pair()
    };
    assert!(TextModel::new(twice).is_err());
    let empty_special = TextMetadata {
        token_types: vec![1, 1, 1, 3],
        tokens: ["a", "b", "ab", ""].map(String::from).to_vec(),
        ..byte_pair()
    };
    assert_eq!(TextModel::new(empty_special).unwrap().encode_raw("ab"), [2]);
}
