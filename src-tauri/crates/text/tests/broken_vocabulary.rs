//! A vocabulary that makes no sense is refused with a reason, never with a panic.

use text::{EncodeLimits, TextError, TextMetadata, TextModel};

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

fn spaced_byte_pair() -> TextMetadata {
    let named = [
        "<bos>",
        "<eos>",
        "<turn|>",
        "a",
        "b",
        "ab",
        "\u{2581}",
        "\u{2581}a",
        "\n",
        "\n\n\n",
        "<0xC3>",
        "<0xA9>",
    ];
    TextMetadata {
        tokenizer_model: "gemma4".into(),
        tokens: named.map(String::from).to_vec(),
        token_types: vec![3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 6, 6],
        merges: vec!["\u{2581} a".into(), "a b".into()],
        bos: Some(0),
        eos: Some(1),
        add_bos: Some(false),
        ..TextMetadata::default()
    }
}

fn word_piece() -> TextMetadata {
    let named = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "\u{2581}play",
        "ing",
        "\u{2581}!",
        "\u{2581}cafe",
        "\u{2581}a",
        "\u{2581}漢",
    ];
    TextMetadata {
        tokenizer_model: "bert".into(),
        tokens: named.map(String::from).to_vec(),
        token_types: vec![3, 3, 3, 3, 1, 1, 1, 1, 1, 1],
        bos: Some(2),
        unk: Some(1),
        separator: Some(3),
        ..TextMetadata::default()
    }
}

/// What a reader of the tokens as they come has read in the end.
fn streamed(model: &TextModel, ids: &[u32]) -> String {
    let mut detokenizer = model.detokenizer(&[]);
    let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
    text.push_str(&detokenizer.finish());
    text
}

#[test]
fn characters_of_a_line_are_merged_by_rank_and_spelt_in_bytes_where_they_have_no_token() {
    let model = TextModel::new(spaced_byte_pair()).unwrap();
    assert_eq!(model.encode_plain("ab ab"), [5, 7, 4], "the better pair is taken first");
    assert_eq!(model.encode_plain("aé"), [3, 10, 11]);
    assert_eq!(model.encode_plain("ax"), [3], "a byte without a token is left out, as llama.cpp does");
    assert_eq!(model.encode_plain("a\n\n\na\n\n"), [3, 9, 3, 8, 8], "a run of line breaks may be a token");
    assert_eq!(model.encode_raw("a<turn|>"), [0, 3, 2], "such files say wrongly that there is no BOS");
    assert!(model.is_end_of_generation(2) && model.is_end_of_generation(1));
    for text in ["ab ab", "aé\n\n\n b", " a  a"] {
        assert_eq!(streamed(&model, &model.encode_plain(text)), text);
        assert_eq!(model.raw_text(&model.encode_raw(text)), text.as_bytes());
    }
}

#[test]
fn words_are_cut_into_the_longest_tokens_from_their_start() {
    let model = TextModel::new(word_piece()).unwrap();
    assert_eq!(model.encode_plain("Playing a\tplay!"), [4, 5, 8, 4, 6]);
    assert_eq!(
        model.encode_plain("CAFÉ cafe\u{301} ca\u{200b}fe"),
        [7, 7, 7],
        "accents and controls are left out"
    );
    assert_eq!(model.encode_plain("playxing a"), [1, 8], "a word is unknown as a whole");
    assert_eq!(model.encode_plain("漢a漢"), [9, 8, 9]);
    assert_eq!(model.encode_closed("a", EncodeLimits::NONE).unwrap(), [2, 8, 3]);
    assert_eq!(model.encode_closed("", EncodeLimits::NONE).unwrap(), [2, 3]);
    assert_eq!(model.encode_plain("a[SEP]a"), [8, 1, 1, 1, 8], "what a client writes is no separator");
    assert_eq!(streamed(&model, &model.encode_plain("playing a!")), " playing a !");
    let with_case = TextMetadata { lower_case: Some(false), ..word_piece() };
    assert_eq!(TextModel::new(with_case).unwrap().encode_plain("Play play café"), [1, 4, 1]);
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
    check(TextMetadata { tokenizer_model: "rwkv".into(), ..byte_pair() }, "\"rwkv\"");
    check(TextMetadata { tokenizer_model: "rwkv".into(), ..byte_pair() }, "gpt2, gemma4, llama, bert");
    check(TextMetadata { pre: Some("klingon".into()), ..byte_pair() }, "\"klingon\"");
    check(TextMetadata { pre: Some("klingon".into()), ..byte_pair() }, "llama-bpe");
    check(TextMetadata { tokens: Vec::new(), ..sentence_piece() }, "0 tokens");
    check(TextMetadata { scores: vec![0.0], ..sentence_piece() }, "1 scores for 7 tokens");
    check(TextMetadata { token_types: vec![1, 1], ..byte_pair() }, "2 token types for 4 tokens");
    check(TextMetadata { merges: Vec::new(), ..byte_pair() }, "no merges");
    check(TextMetadata { merges: vec!["ab".into()], ..byte_pair() }, "merge 0");
    check(TextMetadata { merges: vec!["a b".into(), "a c".into()], ..byte_pair() }, "merge 1");
    check(TextMetadata { merges: vec!["b a".into()], ..byte_pair() }, "\"ba\"");
    check(TextMetadata { merges: Vec::new(), ..spaced_byte_pair() }, "no merges");
    check(TextMetadata { merges: vec!["b a".into()], ..spaced_byte_pair() }, "\"ba\"");
}

#[test]
fn what_a_file_asks_for_and_its_kind_does_not_do_is_refused_by_name() {
    let check = |meta: TextMetadata, key: &str| {
        let error = TextModel::new(meta).unwrap_err();
        assert!(matches!(error, TextError::Unsupported(_)), "{error:?}");
        assert!(error.to_string().contains(key), "{error}");
    };
    for sound in [byte_pair, sentence_piece, spaced_byte_pair, word_piece] {
        let kind = sound().tokenizer_model;
        check(TextMetadata { has_charsmap: true, ..sound() }, "precompiled_charsmap");
        check(TextMetadata { remove_extra_whitespaces: Some(true), ..sound() }, "remove_extra_whitespaces");
        let other = Some(kind == "gpt2");
        check(TextMetadata { escape_whitespaces: other, ..sound() }, "escape_whitespaces");
        let as_it_is = TextMetadata {
            remove_extra_whitespaces: Some(false),
            escape_whitespaces: other.map(|other| !other),
            add_space_prefix: Some(false),
            ..sound()
        };
        let plain = TextModel::new(as_it_is).unwrap().encode_plain("ab a");
        let with_space = TextModel::new(TextMetadata { add_space_prefix: Some(true), ..sound() });
        let is_other = with_space.unwrap().encode_plain("ab a") != plain;
        assert_eq!(is_other, kind == "llama", "only there a space in front means something");
    }
}

#[test]
fn what_is_larger_than_any_models_is_refused() {
    let check = |meta: TextMetadata, reason: &str| {
        let error = TextModel::new(meta).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    let long = |n: usize| "a".repeat(n);
    let with = |token: String, meta: TextMetadata| {
        let mut tokens = meta.tokens.clone();
        *tokens.last_mut().unwrap() = token;
        TextMetadata { tokens, ..meta }
    };
    check(with(long(20_000), sentence_piece()), "token 6 has 20000 bytes");
    check(with(long(300), word_piece()), "token 9 has 300 bytes");
    check(TextMetadata { tokens: vec![String::new(); 3_000_000], ..byte_pair() }, "3000000 tokens");
    check(TextMetadata { tokens: vec![long(16_000); 5_000], ..byte_pair() }, "80000000 bytes");
    check(TextMetadata { merges: vec![String::new(); 5_000_000], ..byte_pair() }, "5000000 merges");
    check(TextMetadata { merges: vec![long(40_000)], ..byte_pair() }, "merge 0 has 40000 bytes");
    let special = TextMetadata { token_types: vec![3; 7], ..sentence_piece() };
    check(with(long(2_000), special), "special tokens");
    let many = |n: usize| TextMetadata {
        tokens: (0..n).map(|i| format!("{i:01000}")).collect(),
        token_types: vec![4; n],
        scores: vec![0.0; n],
        ..sentence_piece()
    };
    check(many(3_000), "3000 special tokens");
    TextModel::new(many(300)).unwrap();
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
