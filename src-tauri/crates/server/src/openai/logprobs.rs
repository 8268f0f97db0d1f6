//! Log-probabilities in the shapes of the two APIs.

use engine::TokenLogprob;
use serde_json::{Map, Value, json};
use text::{TextModel, TokenId};

/// `choices[].logprobs` of a chat: one entry a token.
pub(super) fn of_chat(text: &TextModel, logprobs: &[TokenLogprob]) -> Value {
    let entry = |token: TokenId, logprob: f32| {
        let bytes = text.token_bytes(token);
        json!({"token": String::from_utf8_lossy(bytes), "logprob": finite(logprob), "bytes": bytes})
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
pub(super) fn of_completion(text: &TextModel, logprobs: &[TokenLogprob], mut offset: usize) -> Value {
    let shown = |token: TokenId| String::from_utf8_lossy(text.token_bytes(token)).into_owned();
    let mut tokens = Vec::new();
    let mut token_logprobs = Vec::new();
    let mut top_logprobs = Vec::new();
    let mut text_offset = Vec::new();
    for sampled in logprobs {
        let token = shown(sampled.token);
        text_offset.push(offset);
        offset += token.chars().count();
        tokens.push(token);
        token_logprobs.push(finite(sampled.logprob));
        let top: Map<String, Value> =
            sampled.top.iter().map(|(token, logprob)| (shown(*token), json!(finite(*logprob)))).collect();
        top_logprobs.push(top);
    }
    json!({
        "tokens": tokens,
        "token_logprobs": token_logprobs,
        "top_logprobs": top_logprobs,
        "text_offset": text_offset,
    })
}

/// JSON has no infinity; OpenAI writes this for a token that could not be.
fn finite(logprob: f32) -> f64 {
    const IMPOSSIBLE: f64 = -9999.0;
    if logprob.is_finite() { f64::from(logprob).max(IMPOSSIBLE) } else { IMPOSSIBLE }
}
