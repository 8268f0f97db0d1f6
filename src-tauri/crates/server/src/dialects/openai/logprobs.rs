//! Log-probabilities in the shapes of the two calls.

use std::fmt::Write;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::calls::answer::{ScoredToken, Token};

/// `choices[].logprobs` of a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    /// One entry a token.
    content: Vec<ChatLogprob>,
    /// Always `null`.
    refusal: Option<String>,
}

/// A token of a chat's answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChatLogprob {
    #[serde(flatten)]
    token: TokenLogprob,
    top_logprobs: Vec<TokenLogprob>,
}

/// A token, and how likely it was.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct TokenLogprob {
    token: String,
    logprob: f64,
    /// `null` for a control token, which stands for no bytes of the answer.
    bytes: Option<Vec<u8>>,
}

impl ChatLogprobs {
    pub(crate) fn new(scored: &[ScoredToken]) -> ChatLogprobs {
        ChatLogprobs { content: scored.iter().map(ChatLogprob::new).collect(), refusal: None }
    }
}

impl ChatLogprob {
    pub(crate) fn new(sampled: &ScoredToken) -> ChatLogprob {
        let rivals = sampled.top.iter();
        ChatLogprob {
            token: TokenLogprob::new(&sampled.token, sampled.logprob),
            top_logprobs: rivals.map(|(token, logprob)| TokenLogprob::new(token, *logprob)).collect(),
        }
    }
}

impl TokenLogprob {
    fn new(token: &Token, logprob: f32) -> TokenLogprob {
        let bytes = token.control.is_none().then(|| token.bytes.clone());
        TokenLogprob { token: written(token), logprob: finite(logprob), bytes }
    }
}

/// `choices[].logprobs` of a completion: lists of the same length.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f64>,
    #[schema(value_type = Vec<std::collections::HashMap<String, f64>>)]
    top_logprobs: Vec<TopTokens>,
    /// Where in the text each begins, in characters.
    text_offset: Vec<usize>,
}

/// Tokens by name with their log-probabilities, the likeliest first.
#[derive(Debug)]
struct TopTokens(Vec<(String, f64)>);

impl Serialize for TopTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, logprob)| (name, logprob)))
    }
}

impl CompletionLogprobs {
    /// `offset` is the length in characters of the text before.
    pub(crate) fn new(scored: &[ScoredToken], offset: usize) -> CompletionLogprobs {
        let mut all = CompletionLogprobs::default();
        let mut bytes = Vec::new();
        for sampled in scored {
            // Tokens that share a character start where it does.
            all.text_offset.push(offset + n_whole_chars(&bytes));
            bytes.extend_from_slice(&sampled.token.bytes);
            all.tokens.push(written(&sampled.token));
            all.token_logprobs.push(finite(sampled.logprob));
            all.top_logprobs.push(top(&sampled.top));
        }
        all
    }
}

/// The likeliest tokens as names of an object, each its own: where two are written alike, the less likely one is named
/// by its bytes, and where these are the same too, by its id.
fn top(likeliest: &[(Token, f32)]) -> TopTokens {
    let mut top: Vec<(String, f64)> = Vec::new();
    for (token, logprob) in likeliest {
        let names = [written(token), in_bytes(&token.bytes), format!("token_id:{}", token.id)];
        if let Some(name) = names.into_iter().find(|name| top.iter().all(|(other, _)| other != name)) {
            top.push((name, finite(*logprob)));
        }
    }
    TopTokens(top)
}

/// A token as text. What is only a part of a character is written in bytes, as OpenAI's API does.
fn written(token: &Token) -> String {
    if let Some(control) = &token.control {
        return control.clone();
    }
    std::str::from_utf8(&token.bytes).map_or_else(|_| in_bytes(&token.bytes), str::to_owned)
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
    use serde_json::{Value, json};

    use super::*;

    /// A control token; the other tokens are the bytes.
    const END: u32 = 256;

    fn token(id: u32) -> Token {
        let control = (id >= END).then(|| format!("<|{id}|>"));
        Token { id, bytes: u8::try_from(id).map_or_else(|_| Vec::new(), |byte| vec![byte]), control }
    }

    fn sampled(id: u32, top: &[u32]) -> ScoredToken {
        ScoredToken {
            token: token(id),
            logprob: -0.5,
            top: top.iter().map(|&id| (token(id), -0.5)).collect(),
        }
    }

    fn completion(scored: &[ScoredToken], offset: usize) -> Value {
        serde_json::to_value(CompletionLogprobs::new(scored, offset)).unwrap()
    }

    #[test]
    fn no_rival_is_lost_though_it_is_part_of_a_character_or_written_like_another() {
        for (rivals, want) in [
            (vec![0xc3, 0xe2, 0xf0], vec![r"bytes:\xc3", r"bytes:\xe2", r"bytes:\xf0"]),
            (vec![0xa9, 0xbc, 0xff], vec![r"bytes:\xa9", r"bytes:\xbc", r"bytes:\xff"]),
            (vec![0x61, 0x80, 0x81, 0x62], vec!["a", r"bytes:\x80", r"bytes:\x81", "b"]),
            (vec![END, END + 1, 0x20], vec!["<|256|>", "<|257|>", " "]),
            // The same one three times stands for three that are written alike.
            (vec![0x61, 0x61, 0x61], vec!["a", r"bytes:\x61", "token_id:97"]),
        ] {
            let logprobs = completion(&[sampled(rivals[0], &rivals)], 0);
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
        let offsets = |bytes: &[u8]| {
            let logprobs: Vec<_> = bytes.iter().map(|&byte| sampled(byte.into(), &[])).collect();
            completion(&logprobs, 10)["text_offset"].clone()
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
        let logprobs = ChatLogprobs::new(&[sampled(0xc3, &[0x61, END])]);
        let content = &serde_json::to_value(logprobs).unwrap()["content"][0];
        assert_eq!((&content["token"], &content["bytes"]), (&json!(r"bytes:\xc3"), &json!([0xc3])));
        let top = &content["top_logprobs"];
        assert_eq!((&top[0]["token"], &top[0]["bytes"]), (&json!("a"), &json!([0x61])));
        assert_eq!((&top[1]["token"], &top[1]["bytes"]), (&json!("<|256|>"), &Value::Null));
    }
}
