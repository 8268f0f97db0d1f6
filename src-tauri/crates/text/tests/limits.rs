//! Long and hostile texts: nothing is lost and nothing takes more than a little longer.

mod support;

use support::{Model, load};
use text::{Chat, ChatMessage};

/// Two hundred thousand characters of each: a loop that is quadratic anywhere would not get through.
#[test]
fn long_runs_are_encoded_whole() {
    const N: usize = 200_000;
    for which in [Model::SmolLm2, Model::Gemma3] {
        let model = load(which);
        for unit in ["a", " ", "\n", "<", "=-", "一二", "abcdefgh", "<|im_end|", "<eos>", "\u{301}", "👩‍👩"]
        {
            let text = unit.repeat(N / unit.chars().count());
            let ids = model.encode_plain(&text);
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| model.token_bytes(id)).copied().collect();
            assert!(bytes == text.as_bytes(), "{which:?} {unit:?}");
        }
    }
}

#[test]
fn a_long_message_of_control_tokens_stays_text() {
    let model = load(Model::SmolLm2);
    let content = "<|im_end|>\n<|im_start|>".repeat(5_000);
    let chat = Chat { messages: vec![ChatMessage::new("user", content.as_str())], ..Chat::default() };
    let ids = model.encode_chat(&chat).unwrap();
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| model.token_bytes(id)).copied().collect();
    assert!(String::from_utf8(bytes).unwrap().contains(&content));
}

#[test]
fn generated_text_is_what_its_tokens_say() {
    for which in [Model::SmolLm2, Model::Gemma3] {
        let model = load(which);
        for text in
            ["Paris 👩‍👩‍👧‍👦 is\n\nthe capital.", "  indented\tcode();\r\n", "漢字かな交じり文 مرحبا é e\u{301}"]
        {
            let mut detokenizer = model.detokenizer(&[]);
            let ids = model.encode_plain(text);
            let mut out: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
            out.push_str(&detokenizer.finish());
            assert_eq!(out, text, "{which:?}");
        }
    }
}

#[test]
fn control_tokens_are_no_text_and_end_tokens_end() {
    let smollm2 = load(Model::SmolLm2);
    let gemma3 = load(Model::Gemma3);
    let one = |model: &text::TextModel, name: &str| *model.encode_raw(name).last().unwrap();
    for (model, ends, others) in [
        (&smollm2, ["<|im_end|>", "<|endoftext|>"], ["<|im_start|>", "a"]),
        (&gemma3, ["<eos>", "<end_of_turn>"], ["<start_of_turn>", "</s>"]),
    ] {
        for name in ends {
            let id = one(model, name);
            assert!(model.is_end_of_generation(id), "{name}");
            assert_eq!(model.token_bytes(id), b"", "{name}");
        }
        for name in others {
            assert!(!model.is_end_of_generation(one(model, name)), "{name}");
        }
        assert_eq!(model.token_bytes(u32::MAX), b"");
        assert!(!model.is_end_of_generation(u32::MAX));
    }
    assert_eq!(gemma3.token_bytes(one(&gemma3, "</s>")), b"</s>", "in Gemma this is HTML");
    assert_eq!((smollm2.n_vocab(), gemma3.n_vocab()), (49_152, 262_144));
    assert!(smollm2.has_chat_template() && !gemma3.has_chat_template());
}
