//! A vocabulary of the 256 bytes, built the way a model's own is built.

use scheduler::TokenId;
use text::{TextMetadata, TextModel};

/// The token that ends an answer.
pub const END_OF_TURN: TokenId = 257;

/// The token that starts a message in the manner of ChatML.
pub const START: TokenId = 258;

/// Tokens of the vocabulary: the bytes, `th`, and two control tokens.
pub const N_VOCAB: usize = 259;

/// Token `b` is the byte `b`; `th` is token 256. The chat template writes one line a message.
pub fn tiny_text() -> TextModel {
    text_with_template(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}assistant:{% endif %}",
    )
}

/// The same with a template in the manner of ChatML: an answer follows its generation prompt and nothing else.
pub fn chatml_text() -> TextModel {
    text_with_template(
        "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

/// That with a template that trims what it writes.
pub fn trimming_text() -> TextModel {
    text_with_template(
        "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content | trim }}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

/// That with a template that knows whether to think, and in which tone.
pub fn thinking_text() -> TextModel {
    text_with_template(
        "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}\
         {% if enable_thinking is defined and not enable_thinking %}/no{% endif %}{{ tone }}\
         {% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

/// That with a template that takes a system message at the front only.
pub fn strict_text() -> TextModel {
    text_with_template(
        "{% for m in messages %}{% if m.role == 'system' and not loop.first %}\
         {{ raise_exception('a system message stands at the front') }}{% endif %}\
         <|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

/// The same vocabulary as an encoder has it: a text is put between [`START`] and [`END_OF_TURN`], and there are no chats.
pub fn enclosing_text() -> TextModel {
    let meta = TextMetadata {
        bos: Some(START),
        add_bos: Some(true),
        add_eos: Some(true),
        chat_template: None,
        ..metadata("")
    };
    TextModel::new(meta).expect("the tiny vocabulary is sound")
}

/// That with a template of the test's own.
pub fn text_with_template(template: &str) -> TextModel {
    TextModel::new(metadata(template)).expect("the tiny vocabulary is sound")
}

fn metadata(template: &str) -> TextMetadata {
    let mut tokens: Vec<String> = (0..=255u8).map(|byte| byte_char(byte).to_string()).collect();
    tokens.extend(["th", "<|end|>", "<|start|>"].map(str::to_owned));
    let mut token_types = vec![1; 257];
    token_types.extend([3, 3]);
    TextMetadata {
        tokenizer_model: "gpt2".to_owned(),
        tokens,
        token_types,
        merges: vec!["t h".to_owned()],
        eos: Some(END_OF_TURN),
        add_bos: Some(false),
        chat_template: Some(template.to_owned()),
        ..TextMetadata::default()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_its_own_token_and_text_comes_back() {
        let text = tiny_text();
        assert_eq!(text.n_vocab(), N_VOCAB);
        for byte in 0..=255u8 {
            assert_eq!(text.token_bytes(TokenId::from(byte)), [byte]);
        }
        assert!(text.is_end_of_generation(END_OF_TURN));
        assert_eq!(text.encode_plain("the é"), [256, 101, 32, 0xC3, 0xA9]);
    }
}
