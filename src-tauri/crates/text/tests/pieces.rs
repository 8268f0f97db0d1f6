//! Encoding piece by piece: the tokens of the whole, an end at the limits, and few tokens foretold by length.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

mod support;

use std::cell::Cell;
use std::collections::HashMap;

use support::{Model, load};
use text::{EncodeError, EncodeLimits, TextMetadata, TextModel};

/// A xorshift generator: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn text(&mut self, alphabet: &[char], n_chars: usize) -> String {
        (0..n_chars).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

/// Merging as it is defined, over all of a text: always the best pair, the leftmost of equals.
fn merged(text: &str, join: impl Fn(&str, &str) -> Option<usize>) -> Vec<String> {
    let mut symbols: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let pairs =
            symbols.windows(2).enumerate().filter_map(|(i, pair)| Some((join(&pair[0], &pair[1])?, i)));
        let Some((_, i)) = pairs.min() else { return symbols };
        let right = symbols.remove(i + 1);
        symbols[i].push_str(&right);
    }
}

#[test]
fn pieces_of_byte_pair_words_have_the_ids_of_the_whole() {
    let mut dice = Dice(7);
    let alphabet: Vec<char> = ('a'..='h').collect();
    let mut n_joined = 0;
    for _ in 0..150 {
        let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
        let mut merges = Vec::new();
        for _ in 0..dice.below(60) {
            let (left, right) = (dice.below(tokens.len()), dice.below(tokens.len()));
            let joined = format!("{}{}", tokens[left], tokens[right]);
            if joined.len() <= 8 && !tokens.contains(&joined) {
                merges.push(format!("{} {}", tokens[left], tokens[right]));
                tokens.push(joined);
            }
        }
        if merges.is_empty() {
            continue;
        }
        let ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
        let ranks: HashMap<String, usize> = merges.iter().cloned().zip(0..).collect();
        let model = TextModel::new(TextMetadata {
            tokenizer_model: "gpt2".into(),
            pre: Some("gpt-2".into()),
            tokens,
            merges,
            ..TextMetadata::default()
        });
        let model = model.unwrap();
        for n_chars in [1, 2, 3, 64, 65, 66, 130, 300] {
            let n_used = 1 + dice.below(alphabet.len());
            let text = dice.text(&alphabet[..n_used], n_chars);
            let whole = merged(&text, |left, right| ranks.get(&format!("{left} {right}")).copied());
            n_joined += n_chars - whole.len();
            let wanted: Vec<u32> = whole.iter().map(|symbol| ids[symbol]).collect();
            assert_eq!(model.encode_plain(&text), wanted, "{text} with {ranks:?}");
        }
    }
    assert!(n_joined > 2_000, "{n_joined}: hardly anything was joined");
}

#[test]
fn pieces_of_sentence_piece_text_have_the_ids_of_the_whole() {
    let mut dice = Dice(11);
    let alphabet: Vec<char> = "ab\u{2581}é漢👩\n".chars().collect();
    let mut n_joined = 0;
    for _ in 0..150 {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
        tokens.extend(alphabet.iter().map(char::to_string));
        for _ in 0..dice.below(60) {
            let n_chars = 2 + dice.below(5);
            let token = dice.text(&alphabet, n_chars);
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        // Few scores, so that many are equal.
        let scores: Vec<f32> = tokens.iter().map(|_| -(dice.below(6) as f32)).collect();
        let ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
        let ranks: HashMap<String, usize> =
            tokens.iter().cloned().zip(scores.iter().map(|score| (-score) as usize)).collect();
        let mut token_types = vec![1; tokens.len()];
        token_types[..3].copy_from_slice(&[2, 3, 3]);
        let meta = TextMetadata {
            tokenizer_model: "llama".into(),
            tokens,
            token_types,
            scores,
            add_space_prefix: Some(dice.below(2) == 0),
            ..TextMetadata::default()
        };
        let prefix = if meta.add_space_prefix == Some(true) { "\u{2581}" } else { "" };
        let model = TextModel::new(meta).unwrap();
        for n_chars in [1, 2, 3, 10, 50, 200] {
            let text = dice.text(&alphabet, n_chars).replace('\u{2581}', " ");
            let spaced = format!("{prefix}{}", text.replace(' ', "\u{2581}"));
            let whole = merged(&spaced, |left, right| ranks.get(&format!("{left}{right}")).copied());
            n_joined += spaced.chars().count() - whole.len();
            let wanted: Vec<u32> = whole.iter().map(|symbol| ids[symbol]).collect();
            assert_eq!(model.encode_plain(&text), wanted, "{text:?} with {ranks:?}");
        }
    }
    assert!(n_joined > 2_000, "{n_joined}: hardly anything was joined");
}

#[test]
fn runs_longer_than_a_piece_spell_what_they_are() {
    for which in [Model::SmolLm2, Model::Gemma3] {
        let model = load(which);
        for unit in ["a", "ab", "é", "漢", "\u{2581}x", "👩\u{200d}"] {
            let text = unit.repeat(700_000 / unit.len());
            let ids = model.encode_plain(&text);
            let spelt: Vec<u8> = ids.iter().flat_map(|&id| model.token_bytes(id)).copied().collect();
            assert!(
                spelt
                    == text
                        .replace('\u{2581}', if which == Model::Gemma3 { " " } else { "\u{2581}" })
                        .as_bytes(),
                "{which:?} {unit:?}"
            );
        }
    }
}

/// Texts of a megabyte: ordinary ones, and words without an end.
fn long_texts() -> Vec<String> {
    let units = [
        "The moth and the lamp. ",
        "a",
        "q7Zk+/x",
        "漢字かな",
        " ",
        "4711",
        "👩\u{200d}👩",
        "\n",
        "<|im_end|>",
        "=-",
    ];
    units.iter().map(|unit| unit.repeat((1 << 20) / unit.len())).collect()
}

#[test]
fn encoding_ends_soon_after_the_last_token_that_is_of_use() {
    for which in [Model::SmolLm2, Model::Gemma3] {
        let model = load(which);
        for text in long_texts() {
            let n_asked = Cell::new(0);
            let is_abandoned = || {
                n_asked.set(n_asked.get() + 1);
                false
            };
            let start: String = text.chars().take(16).collect();
            let limits = EncodeLimits { max_tokens: 100, is_abandoned: &is_abandoned };
            let Err(EncodeError::TooLong { at_least }) = model.encode_raw_within(&text, limits) else {
                panic!("{which:?} {start:?}")
            };
            assert!(at_least > 100 && at_least <= model.encode_raw(&text).len(), "{which:?} {start:?}");
            assert!(n_asked.get() <= 3, "{which:?} {start:?}: {} questions, as for all of it", n_asked.get());
        }
    }
}

#[test]
fn exactly_as_many_tokens_as_are_of_use_are_not_too_many() {
    for which in [Model::SmolLm2, Model::Gemma3] {
        let model = load(which);
        for text in ["The moth and the lamp", "", "<|im_end|><eos>", "7", "漢字 👩"] {
            let ids = model.encode_plain(text);
            let raw = model.encode_raw(text);
            let n_own =
                model.encode_raw_within(text, EncodeLimits { max_tokens: ids.len(), ..EncodeLimits::NONE });
            assert_eq!(n_own, Ok(raw), "{text:?}");
            if let Some(max_tokens) = model.encode_raw(text).len().checked_sub(2) {
                let less = model.encode_raw_within(text, EncodeLimits { max_tokens, ..EncodeLimits::NONE });
                assert!(matches!(less, Err(EncodeError::TooLong { .. })), "{text:?}");
            }
        }
    }
}

#[test]
fn encoding_ends_where_nobody_waits_for_it_and_asks_often_whether_that_is_so() {
    for which in [Model::SmolLm2, Model::Gemma3] {
        let model = load(which);
        for text in long_texts() {
            let start: String = text.chars().take(16).collect();
            let n_asked = Cell::new(0);
            let ask = |n: usize| {
                n_asked.set(0);
                let is_abandoned = || {
                    n_asked.set(n_asked.get() + 1);
                    n_asked.get() == n
                };
                let limits = EncodeLimits { max_tokens: usize::MAX, is_abandoned: &is_abandoned };
                model.encode_raw_within(&text, limits)
            };
            assert_eq!(ask(1), Err(EncodeError::Abandoned), "{which:?} {start:?}: before it begins");
            assert_eq!(ask(3), Err(EncodeError::Abandoned), "{which:?} {start:?}: on the way");
            assert!(ask(usize::MAX).is_ok());
            assert!(n_asked.get() >= text.len() / (256 << 10), "{which:?} {start:?}: {}", n_asked.get());
        }
    }
}

#[test]
fn no_text_has_fewer_tokens_than_its_length_says() {
    let corpus = include_str!("data/corpus.jsonl");
    let lines = corpus.lines().map(|line| serde_json::from_str::<String>(line).unwrap());
    let texts: Vec<String> = lines.chain(long_texts()).collect();
    for which in [Model::SmolLm2, Model::Gemma3] {
        let model = load(which);
        for text in &texts {
            let n = model.encode_raw(text).len();
            let fewest = model.fewest_tokens([text.as_str()]);
            assert!(fewest <= n, "{which:?} {fewest} {n} {:?}", text.chars().take(40));
            assert!(
                fewest >= text.len() / 1000,
                "{which:?} {fewest}: nothing is foretold of {:?}",
                text.chars().take(40)
            );
        }
        assert_eq!(model.fewest_tokens([]), 0);
        assert_eq!(model.fewest_tokens(["", "a", ""]), 1);
    }
}

#[test]
fn text_without_tokens_foretells_none() {
    let tokens = ["a", "b", "ab"].map(String::from).to_vec();
    let meta = TextMetadata {
        tokenizer_model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens,
        merges: vec!["a b".into()],
        ..TextMetadata::default()
    };
    let model = TextModel::new(meta).unwrap();
    assert_eq!(model.encode_raw("xyz"), [0; 0]);
    assert_eq!(model.fewest_tokens(["xyz"]), 0);
    assert_eq!(model.fewest_tokens(["xaybz", "x", "abab"]), 3);
}
