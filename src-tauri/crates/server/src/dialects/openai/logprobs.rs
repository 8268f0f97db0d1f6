//! Log-probabilities in the shapes of the two APIs.

use std::fmt::Write;

use engine::TokenLogprob;
use serde_json::{Map, Value, json};
use text::{TextModel, TokenId};

/// `choices[].logprobs` of a chat: one entry a token.
pub(crate) fn of_chat(text: &TextModel, logprobs: &[TokenLogprob]) -> Value {
    let entry = |token: TokenId, logprob: f32| {
        // A control token stands for no bytes of the answer.
        let bytes = text.control_text(token).is_none().then(|| text.token_bytes(token));
        json!({"token": written(text, token), "logprob": finite(logprob), "bytes": bytes})
    };
    let content: Vec<Value> = logprobs
        .iter()
        .map(|sampled| {
            let mut value = entry(sampled.token, sampled.logprob);
            value["top_logprobs"] =
                sampled.top.iter().map(|(token, logprob)| entry(*token, *logprob)).collect();
            value
        })
        .collect();
    json!({"content": content, "refusal": null})
}

/// `choices[].logprobs` of a completion: parallel lists. `offset` is the length in characters of the text before.
pub(crate) fn of_completion(text: &TextModel, logprobs: &[TokenLogprob], offset: usize) -> Value {
    let mut tokens = Vec::new();
    let mut token_logprobs = Vec::new();
    let mut top_logprobs = Vec::new();
    let mut text_offset = Vec::new();
    let mut bytes = Vec::new();
    for sampled in logprobs {
        // Tokens that share a character start where it does.
        text_offset.push(offset + n_whole_chars(&bytes));
        bytes.extend_from_slice(text.token_bytes(sampled.token));
        tokens.push(written(text, sampled.token));
        token_logprobs.push(finite(sampled.logprob));
        top_logprobs.push(top(text, &sampled.top));
    }
    json!({
        "tokens": tokens,
        "token_logprobs": token_logprobs,
        "top_logprobs": top_logprobs,
        "text_offset": text_offset,
    })
}

/// The likeliest tokens as names of an object, each its own: where two are written alike, the less likely one is named
/// by its bytes, and where these are the same too, by its id.
fn top(text: &TextModel, likeliest: &[(TokenId, f32)]) -> Map<String, Value> {
    let mut top = Map::new();
    for &(token, logprob) in likeliest {
        let names = [written(text, token), in_bytes(text.token_bytes(token)), format!("token_id:{token}")];
        if let Some(name) = names.into_iter().find(|name| !top.contains_key(name)) {
            top.insert(name, json!(finite(logprob)));
        }
    }
    top
}

/// A token as text. What is only a part of a character is written in bytes, as OpenAI's API does.
fn written(text: &TextModel, token: TokenId) -> String {
    if let Some(control) = text.control_text(token) {
        return control.to_owned();
    }
    let bytes = text.token_bytes(token);
    std::str::from_utf8(bytes).map_or_else(|_| in_bytes(bytes), str::to_owned)
}

fn in_bytes(bytes: &[u8]) -> String {
    bytes.iter().fold("bytes:".to_owned(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
        text
    })
}

/// Characters that these bytes complete.
fn n_whole_chars(bytes: &[u8]) -> usize {
    let is_begun = |rest: &[u8]| std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
    let mut n_chars = 0;
    let mut left = bytes.utf8_chunks().peekable();
    while let Some(chunk) = left.next() {
        n_chars += chunk.valid().chars().count();
        let is_incomplete = left.peek().is_none() && is_begun(chunk.invalid());
        n_chars += usize::from(!chunk.invalid().is_empty() && !is_incomplete);
    }
    n_chars
}

/// JSON has no infinity; OpenAI writes this for a token that could not be.
fn finite(logprob: f32) -> f64 {
    const IMPOSSIBLE: f64 = -9999.0;
    if logprob.is_finite() { f64::from(logprob).max(IMPOSSIBLE) } else { IMPOSSIBLE }
}

#[cfg(test)]
mod tests {
    use engine::testing::{END_OF_TURN, tiny_text};

    use super::*;

    fn sampled(token: TokenId, top: &[TokenId]) -> TokenLogprob {
        TokenLogprob { token, logprob: -0.5, top: top.iter().map(|&token| (token, -0.5)).collect() }
    }

    #[test]
    fn no_rival_is_lost_though_it_is_part_of_a_character_or_written_like_another() {
        let text = tiny_text();
        for (rivals, want) in [
            (vec![0xc3, 0xe2, 0xf0], vec![r"bytes:\xc3", r"bytes:\xe2", r"bytes:\xf0"]),
            (vec![0xa9, 0xbc, 0xff], vec![r"bytes:\xa9", r"bytes:\xbc", r"bytes:\xff"]),
            (vec![0x61, 0x80, 0x81, 0x62], vec!["a", r"bytes:\x80", r"bytes:\x81", "b"]),
            (vec![END_OF_TURN, END_OF_TURN + 1, 0x20], vec!["<|end|>", "<|start|>", " "]),
            // No two tokens of the tiny vocabulary are written alike; the same one twice shows what would happen.
            (vec![0x61, 0x61, 0x61], vec!["a", r"bytes:\x61", "token_id:97"]),
        ] {
            let logprobs = of_completion(&text, &[sampled(rivals[0], &rivals)], 0);
            let top = logprobs["top_logprobs"][0].as_object().unwrap();
            let mut names: Vec<&str> = top.keys().map(String::as_str).collect();
            let mut want = want;
            names.sort_unstable();
            want.sort_unstable();
            assert_eq!(names, want);
        }
    }

    #[test]
    fn offsets_count_whole_characters() {
        let text = tiny_text();
        let offsets = |bytes: &[u8]| {
            let logprobs: Vec<_> = bytes.iter().map(|&byte| sampled(byte.into(), &[])).collect();
            of_completion(&text, &logprobs, 10)["text_offset"].clone()
        };
        assert_eq!(offsets("aéb".as_bytes()), json!([10, 11, 11, 12]));
        assert_eq!(offsets("🌍!".as_bytes()), json!([10, 10, 10, 10, 11]));
        // A byte that begins nothing is a replacement character of its own.
        assert_eq!(offsets(&[0xff, b'a']), json!([10, 11]));
        assert_eq!(offsets(&[0xc3, b'a', b'b']), json!([10, 10, 12]));
        assert_eq!(offsets(b"abc"), json!([10, 11, 12]));
    }

    #[test]
    fn a_chat_says_which_bytes_a_token_has() {
        let content = &of_chat(&tiny_text(), &[sampled(0xc3, &[0x61, END_OF_TURN])])["content"][0];
        assert_eq!((&content["token"], &content["bytes"]), (&json!(r"bytes:\xc3"), &json!([0xc3])));
        let top = &content["top_logprobs"];
        assert_eq!((&top[0]["token"], &top[0]["bytes"]), (&json!("a"), &json!([0x61])));
        assert_eq!((&top[1]["token"], &top[1]["bytes"]), (&json!("<|end|>"), &Value::Null));
    }
}
