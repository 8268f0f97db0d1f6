//! A conversation that a client sends back turn by turn.

use engine::testing::{ScriptedLoader, chatml_text, trimming_text};
use serde_json::json;
use text::TextModel;

use super::*;

/// Two turns with `more` fields; the second one's cached and spliced tokens, and the tokens of the first.
async fn second_turn(rig: &Rig, more: Value) -> (u64, u64, u64) {
    let mut messages = vec![json!({"role": "user", "content": "Tell me of the moth."})];
    let ask = async |messages: &[Value]| {
        let mut body = more.clone();
        body["messages"] = messages.into();
        let answer = rig.post("/v1/chat/completions", &body.to_string()).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        answer.json()
    };
    let first = ask(&messages).await;
    // As official clients send it back: with all fields that came.
    messages.push(first["choices"][0]["message"].clone());
    messages.push(json!({"role": "user", "content": "Go on."}));
    let second = ask(&messages).await;
    let record = rig.get("/admin/requests").await.json()["requests"][0].clone();
    let cached = second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!(record["reused_tokens"], cached);
    let prompt_tokens = second["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(record["prefilled_tokens"], prompt_tokens - cached);
    (cached, record["spliced_tokens"].as_u64().unwrap(), first["usage"]["prompt_tokens"].as_u64().unwrap())
}

/// A rig whose model says `answer` in a chat that `text` renders.
async fn rig(answer: &str, text: fn() -> TextModel) -> Rig {
    let steering = Steering::free();
    let script = Script::Says(answer.to_owned());
    let model = ScriptedModel { script, text, ..ScriptedModel::default() };
    let loader = ScriptedLoader::new(model, steering.clone());
    let rig = Rig::around(steering, Arc::new(loader), |_, _| {});
    rig.ready().await;
    rig
}

#[tokio::test]
async fn the_next_turn_prefills_only_what_the_user_added_and_not_the_models_own_last_answer() {
    // The model spells `th` in two tokens, the vocabulary would in one.
    let rig = rig("then the moth", chatml_text).await;
    let (cached, spliced, prompt) = second_turn(&rig, json!({})).await;
    assert_eq!((cached, spliced), (prompt + 13, 13));
}

#[tokio::test]
async fn neither_when_a_stop_string_cut_it() {
    let rig = rig("then the moth.END", chatml_text).await;
    let (cached, spliced, prompt) = second_turn(&rig, json!({"stop": ["END"]})).await;
    assert_eq!((cached, spliced), (prompt + 14, 14));
}

#[tokio::test]
async fn neither_when_it_was_streamed_sampled_and_trimmed() {
    let rig = rig("then the moth. \n", trimming_text).await;
    // Nearly greedy, and by the sampler's whole way.
    let (cached, spliced, prompt) = second_turn(&rig, json!({"temperature": 0.05, "seed": 1})).await;
    assert_eq!((cached, spliced), (prompt + 14, 14));
}
