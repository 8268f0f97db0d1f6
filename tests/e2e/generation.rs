//! Answers: that they are right, the same however they are asked for, and end where they should.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::harness::answer::chat;
use crate::harness::{GEMMA3, Response, SMOLLM2, Samovar, Setup};

fn text_of(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.body);
    let choice = &response.json()["choices"][0];
    let text = choice["message"]["content"].as_str().or_else(|| choice["text"].as_str());
    text.unwrap_or_else(|| panic!("no text: {}", response.body)).to_owned()
}

#[test]
fn asked_for_the_capital_of_france_it_names_paris() {
    let server = Samovar::ready();
    let answer = server.post("/v1/chat/completions", &chat("What is the capital of France?", 32));
    assert!(text_of(&answer).contains("Paris"), "{}", answer.body);
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["role"], "assistant");
    assert_eq!(body["choices"][0]["finish_reason"], "stop", "{body}");
    let usage = &body["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"].as_u64(), Some(sum), "{usage}");
}

#[test]
fn fast_and_full_precision_both_answer_with_any_form_of_keys_and_values() {
    for (precision, kv_dtype) in [("fast", "f16"), ("fast", "q4"), ("full", "f16"), ("full", "q4")] {
        let server = Setup::new(SMOLLM2).with("--precision", precision).with("--kv-dtype", kv_dtype).ready();
        let body = json!({"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0});
        let answer = server.post("/v1/completions", &body);
        assert!(text_of(&answer).contains("Paris"), "{precision} {kv_dtype}: {}", answer.body);
    }
}

#[test]
fn a_stream_says_what_the_whole_answer_says_and_ends_with_usage_and_done() {
    let server = Samovar::ready();
    let mut body = chat("What is the capital of France?", 32);
    let whole = server.post("/v1/chat/completions", &body);
    body["stream_options"] = json!({"include_usage": true});
    let streamed = server.stream("/v1/chat/completions", &body).finish();
    streamed.assert_complete();
    assert_eq!(streamed.text, text_of(&whole));
    assert_eq!(streamed.finish_reason.as_deref(), Some("stop"));
    let usage = streamed.usage.expect("usage was asked for");
    assert_eq!(usage["completion_tokens"], whole.json()["usage"]["completion_tokens"]);
}

#[test]
fn greedy_output_is_the_same_alone_and_in_a_batch_of_eight() {
    let server = Samovar::ready();
    let prompts: Vec<String> = (1..=8)
        .map(|i| format!("Write {i} sentences about {}.", ["tea", "rain", "iron", "maps"][i % 4]))
        .collect();
    let alone: Vec<_> = prompts
        .iter()
        .map(|prompt| server.stream("/v1/chat/completions", &chat(prompt, 48)).finish())
        .collect();

    // Another server, so that nothing of the first round can be reused; held until all eight are in.
    let server = Setup::new(SMOLLM2).held_at("step").ready();
    let streams: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            let mut body = chat(prompt, 48);
            body["stream"] = json!(true);
            let mut connection = server.connect();
            connection.send("POST", "/v1/chat/completions", &[], Some(&body.to_string()));
            connection
        })
        .collect();
    crate::harness::eventually("all eight are in", || {
        let status = server.get("/admin/status").json();
        let n = status["running"].as_u64().unwrap_or(0) + status["waiting"].as_u64().unwrap_or(0);
        (n == 8).then_some(())
    });
    server.release("step");
    for (connection, alone) in streams.into_iter().zip(alone) {
        let events = connection.receive_events().unwrap_or_else(|r| panic!("no stream: {}", r.body));
        let batched = crate::harness::AnswerStream::new(events).finish();
        batched.assert_complete();
        assert_eq!(batched.text, alone.text);
    }
    let most = server.get("/metrics").body;
    assert!(rows_per_step_reached(&most, 8), "the eight never ran together:\n{most}");
}

/// Whether some step had at least `n` rows, by the rows-per-step histogram.
fn rows_per_step_reached(metrics: &str, n: u64) -> bool {
    let buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter(|line| line.starts_with("samovar_step_rows_bucket"))
        .filter_map(|line| {
            let le = line.split("le=\"").nth(1)?.split('"').next()?;
            Some((le.parse().unwrap_or(f64::INFINITY), line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect();
    let below = buckets.iter().filter(|(le, _)| *le < n as f64).map(|(_, count)| *count).fold(0.0, f64::max);
    let all = buckets.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    all > below
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_part_of_it() {
    let server = Samovar::ready();
    let mut body = chat("What is the capital of France?", 32);
    let whole = text_of(&server.post("/v1/chat/completions", &body));
    let at = whole.find("Paris").expect("the answer names Paris");
    body["stop"] = json!(["Paris"]);
    let stopped = server.post("/v1/chat/completions", &body);
    assert_eq!(text_of(&stopped), whole[..at]);
    assert_eq!(stopped.json()["choices"][0]["finish_reason"], "stop");

    let streamed = server.stream("/v1/chat/completions", &body).finish();
    streamed.assert_complete();
    assert_eq!(streamed.text, whole[..at], "part of the stop string was let out");
}

#[test]
fn max_tokens_ends_the_answer_with_length() {
    let server = Samovar::ready();
    let answer = server.post("/v1/chat/completions", &chat("Tell me a long story.", 5)).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 5);
}

#[test]
fn a_seed_fixes_the_choices() {
    let server = Samovar::ready();
    let ask = |seed: u64| {
        let mut body = chat("Invent a name for a cat.", 24);
        body["temperature"] = json!(1.0);
        body["seed"] = json!(seed);
        text_of(&server.post("/v1/chat/completions", &body))
    };
    assert_eq!(ask(7), ask(7));
    let others: Vec<String> = (8..14).map(ask).collect();
    assert!(others.iter().any(|other| *other != others[0]), "every seed says the same: {others:?}");
}

#[test]
fn asking_again_reuses_the_prompt_and_changes_nothing() {
    let server = Samovar::ready();
    let body = chat(&"Tell me about tea. ".repeat(30), 16);
    let first = server.post("/v1/chat/completions", &body);
    let second = server.post("/v1/chat/completions", &body);
    assert_eq!(text_of(&first), text_of(&second));
    let cached = |r: &Response| r.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!(cached(&first), 0);
    let n_prompt = second.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(cached(&second) > n_prompt / 2 && cached(&second) < n_prompt, "{}", second.body);
}

#[test]
fn quantised_kv_takes_less_memory_and_still_names_paris() {
    let block_bytes = |dtype: &str| {
        let server = Setup::new(SMOLLM2).with("--kv-dtype", dtype).ready();
        let body = json!({"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0});
        let answer = server.post("/v1/completions", &body);
        assert!(text_of(&answer).contains("Paris"), "{dtype}: {}", answer.body);
        server.get("/admin/status").json()["pool"]["block_bytes"].as_u64().expect("block_bytes")
    };
    let (f16, q8, q4) = (block_bytes("f16"), block_bytes("q8"), block_bytes("q4"));
    // 16 bits a value against 8.5, and against 8.5 in keys and 4.5 in value vectors.
    assert_eq!((q8 * 32, q4 * 32), (f16 * 17, f16 * 13));
}

#[test]
fn gemma_goes_on_counting_past_its_windows() {
    let server = Setup::new(GEMMA3).ready();
    let mut prompt = String::new();
    for number in 1..=240 {
        writeln!(prompt, "{number}").unwrap();
    }
    let body = json!({"prompt": prompt, "max_tokens": 12, "temperature": 0});
    let whole = server.post("/v1/completions", &body);
    let n_prompt = whole.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(n_prompt > 512, "the prompt has {n_prompt} tokens, which one window holds");
    assert!(text_of(&whole).starts_with("241\n242\n"), "{}", whole.body);
    assert_eq!(whole.json()["object"], "text_completion");

    let streamed = server.stream("/v1/completions", &body).finish();
    streamed.assert_complete();
    assert_eq!(streamed.text, text_of(&whole));
}

#[test]
fn a_model_without_a_chat_template_says_so() {
    let server = Setup::new(GEMMA3).ready();
    let refused = server.post("/v1/chat/completions", &chat("Hello", 4));
    assert_eq!(refused.status, 400, "{}", refused.body);
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("chat template"), "{message}");
}

#[test]
fn errors_have_the_shape_that_the_official_client_knows() {
    let server = Samovar::ready();
    let mut unknown = chat("Hello", 4);
    unknown["model"] = json!("no-such-model");
    let mut hot = chat("Hello", 4);
    hot["temperature"] = json!(9);
    let mut image = chat("Hello", 4);
    image["messages"][0]["content"] =
        json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]);
    let too_long = chat(&"word ".repeat(20_000), 4);
    for (body, status, code) in [
        (unknown, 404, json!("model_not_found")),
        (hot, 400, json!("invalid_value")),
        (image, 400, json!("unsupported_parameter")),
        (too_long, 400, json!("context_length_exceeded")),
        (json!({"messages": []}), 400, Value::Null),
        (json!({}), 400, json!("missing_required_parameter")),
    ] {
        let refused = server.post("/v1/chat/completions", &body);
        assert_eq!(refused.status, status, "{}", refused.body);
        let error = &refused.json()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
        if !code.is_null() {
            assert_eq!(error["code"], code, "{error}");
        }
    }
    assert_eq!(server.get("/v1/nothing").status, 404);
    assert_eq!(server.get("/v1/responses/resp_0").status, 404);
    assert_eq!(server.get("/v1/responses").status, 405);
}

#[test]
fn the_model_is_listed_with_the_name_that_requests_may_use() {
    let server = Samovar::ready();
    let id = server.model_id();
    let mut body = chat("Hello", 4);
    body["model"] = json!(id);
    assert_eq!(server.post("/v1/chat/completions", &body).status, 200);
    body["model"] = json!("SmolLM2-135M-Instruct.Q4_1");
    assert_eq!(server.post("/v1/chat/completions", &body).status, 200, "the file's name is a name too");
}
