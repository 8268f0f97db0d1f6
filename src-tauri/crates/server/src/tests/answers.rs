//! Whole answers, and who is meant by `model`.

use std::sync::Arc;

use engine::testing::{ScriptedLoader, ScriptedModel, Steering};
use engine::{Failure, FailureKind, LoadDesk, Loaded, ModelCard, ModelLoader, ModelName};
use text::{TextMetadata, TextModel};

use super::*;

#[tokio::test]
async fn a_chat_is_answered_in_one_piece() {
    let rig = Rig::saying(" yes.").await;
    let answer = rig.post("/v1/chat/completions", &chat("")).await;
    assert_eq!(answer.status, OK);
    assert_eq!(
        answer.stable(),
        concat!(
            r#"{"id":"chatcmpl-…","object":"chat.completion","created":…,"model":"scripted","#,
            r#""system_fingerprint":"fp_0707070707","choices":[{"index":0,"#,
            r#""message":{"role":"assistant","content":" yes.","refusal":null,"annotations":[]},"#,
            r#""logprobs":null,"finish_reason":"stop"}],"#,
            r#""usage":{"prompt_tokens":20,"completion_tokens":6,"total_tokens":26,"#,
            r#""prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#,
        )
    );
}

#[tokio::test]
async fn a_prompt_is_completed_in_one_piece() {
    let rig = Rig::saying(" yes.").await;
    let answer = rig.post("/v1/completions", r#"{"prompt":"so","max_tokens":3}"#).await;
    assert_eq!(answer.status, OK);
    assert_eq!(
        answer.stable(),
        concat!(
            r#"{"id":"cmpl-…","object":"text_completion","created":…,"model":"scripted","#,
            r#""system_fingerprint":"fp_0707070707","choices":[{"index":0,"text":" ye","#,
            r#""logprobs":null,"finish_reason":"length"}],"#,
            r#""usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5,"#,
            r#""prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#,
        )
    );
}

#[tokio::test]
async fn cached_tokens_are_those_that_were_reused() {
    let rig = Rig::saying(" yes.").await;
    let long = format!(r#"{{"prompt":"{}","max_tokens":1}}"#, "x".repeat(100));
    let cached = |answer: &Answer| answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
    assert_eq!(cached(&rig.post("/v1/completions", &long).await), Some(0));
    let again = rig.post("/v1/completions", &long).await;
    assert!(cached(&again).unwrap() >= 96, "{}", again.text);
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_and_is_not_in_it() {
    let rig = Rig::saying(" one two three").await;
    let answer = rig.post("/v1/chat/completions", &chat(r#","stop":["nine","two"]"#)).await;
    let choice = &answer.json()["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&" one ".into(), &"stop".into()));
}

#[tokio::test]
async fn the_loaded_model_answers_to_its_id_its_file_and_no_name_but_to_no_other() {
    let rig = Rig::saying("a").await;
    for name in [r#""scripted""#, r#""scripted.gguf""#, r#""""#, "null"] {
        let answer = rig.post("/v1/chat/completions", &chat(&format!(r#","model":{name}"#))).await;
        assert_eq!((answer.status, &answer.json()["model"]), (OK, &"scripted".into()), "{name}");
    }
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let body = if path.contains("chat") {
            chat(r#","model":"gpt-4o""#)
        } else {
            r#"{"prompt":"a","model":"gpt-4o"}"#.into()
        };
        assert_eq!(rig.post(path, &body).await.error(), (404, "model_not_found".into(), "model".into()));
    }
}

#[tokio::test]
async fn models_are_listed_with_the_length_of_their_context() {
    let rig = Rig::saying("a").await;
    let list = rig.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!(
        (&model["id"], &model["object"], &model["context_length"], &model["max_model_len"]),
        (&"scripted".into(), &"model".into(), &2048.into(), &2048.into())
    );
    assert_eq!(rig.get("/v1/models/scripted").await.json(), *model);
    assert_eq!(rig.get("/v1/models/scripted.gguf").await.json(), *model);
    for path in ["/v1/models/gpt-4o", "/v1/models/org/name"] {
        assert_eq!(rig.get(path).await.error(), (404, "model_not_found".into(), "model".into()));
    }
}

#[tokio::test]
async fn no_model_is_listed_while_there_is_none() {
    let steering = Steering::free();
    steering.hold_loads();
    let loader = ScriptedLoader::new(ScriptedModel::default(), steering.clone());
    let rig = Rig::around(steering.clone(), Arc::new(loader), |_, _| {});
    assert_eq!(rig.get("/v1/models").await.text, r#"{"object":"list","data":[]}"#);
    steering.release_load(Ok(()));
}

#[tokio::test]
async fn log_probabilities_come_with_their_tokens_bytes_and_rivals() {
    let rig = Rig::saying("yes").await;
    let answer =
        rig.post("/v1/chat/completions", &chat(r#","temperature":0,"logprobs":true,"top_logprobs":2"#)).await;
    let content = answer.json()["choices"][0]["logprobs"]["content"].clone();
    let entries = content.as_array().unwrap();
    let tokens: Vec<&str> = entries.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(tokens[..3], ["y", "e", "s"]);
    assert_eq!(entries[0]["bytes"], serde_json::json!([b'y']));
    for entry in &entries[..3] {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&entry["token"], &entry["logprob"]));
        assert!(
            entry["logprob"].as_f64().unwrap() < 0.0
                && top[1]["logprob"].as_f64() <= top[0]["logprob"].as_f64()
        );
    }

    let answer =
        rig.post("/v1/completions", r#"{"prompt":"so","temperature":0,"logprobs":1,"max_tokens":2}"#).await;
    let logprobs = answer.json()["choices"][0]["logprobs"].clone();
    assert_eq!(logprobs["tokens"], serde_json::json!(["y", "e"]));
    assert_eq!(logprobs["text_offset"], serde_json::json!([0, 1]));
    assert_eq!(logprobs["top_logprobs"][0]["y"], logprobs["token_logprobs"][0]);
}

#[tokio::test]
async fn a_prompt_beyond_the_context_is_told_both_lengths_in_the_words_that_agents_know() {
    let rig = Rig::saying("a").await;
    let long = "x".repeat(3000);
    let answer = rig.post("/v1/completions", &format!(r#"{{"prompt":"{long}"}}"#)).await;
    assert_eq!(answer.error(), (400, "context_length_exceeded".into(), "prompt".into()));
    let body = format!(r#"{{"messages":[{{"role":"user","content":"{long}"}}],"stream":true}}"#);
    let answer = rig.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.error(), (400, "context_length_exceeded".into(), "messages".into()));
    let message = answer.json()["error"]["message"].to_string();
    assert!(
        message.contains("maximum context length is 2048 tokens") && message.contains("3018 tokens"),
        "{message}"
    );
    // For programs, which shall not look for numbers in words.
    let answer = rig.post("/v1/completions", &format!(r#"{{"prompt":"{long}"}}"#)).await.json();
    let (counted, holds) = (&answer["error"]["prompt_tokens"], &answer["error"]["context_length"]);
    assert_eq!((counted, holds), (&3000.into(), &2048.into()), "{answer}");
}

/// A model that cannot chat.
struct BaseModel(ScriptedLoader);

impl ModelLoader for BaseModel {
    fn load(&self, model: &ModelName, desk: &dyn LoadDesk) -> Result<Loaded, Failure> {
        let Loaded { runner, card } = self.0.load(model, desk)?;
        let tokens = ["h", "i", "hi", "<|end|>"].map(str::to_owned).to_vec();
        let metadata = TextMetadata {
            tokenizer_model: "gpt2".to_owned(),
            tokens,
            token_types: vec![1, 1, 1, 3],
            merges: vec!["h i".to_owned()],
            eos: Some(3),
            add_bos: Some(false),
            ..TextMetadata::default()
        };
        let text = Arc::new(
            TextModel::new(metadata)
                .map_err(|error| Failure::new(FailureKind::Damaged, error.to_string()))?,
        );
        let name = "base".to_owned();
        let (effective_context, trained_context) = (card.effective_context, card.trained_context);
        let card = ModelCard {
            aliases: Vec::new(),
            template_fault: None,
            name,
            purpose: card.purpose.clone(),
            text,
            effective_context,
            trained_context,
            goes_back: card.goes_back,
            fingerprint: card.fingerprint,
            file_bytes: card.file_bytes,
            about: card.about.clone(),
            sampling: card.sampling.clone(),
            served_by: card.served_by.clone(),
            loaded_at: card.loaded_at,
        };
        Ok(Loaded { runner, card: Arc::new(card) })
    }
}

#[tokio::test]
async fn a_model_without_a_chat_template_says_so() {
    let steering = Steering::free();
    let loader = BaseModel(ScriptedLoader::new(ScriptedModel::default(), steering.clone()));
    let rig = Rig::around(steering, Arc::new(loader), |_, _| {});
    rig.ready().await;
    let answer = rig.post("/v1/chat/completions", &chat("")).await;
    assert_eq!(answer.error(), (400, "no_chat_template".into(), "messages".into()));
    assert!(answer.text.contains("chat template") && answer.text.contains("/v1/completions"));
}
