//! Anthropic's API, as its clients see it.

use std::time::Duration;

use engine::After;
use engine::testing::Outcome;
use futures_util::StreamExt;
use serde_json::json;

use super::*;
use crate::config::ApiKey;

/// A body for `/v1/messages`: one user's "hi" and `more` fields.
fn messages(more: &str) -> String {
    format!(r#"{{"model":"scripted","max_tokens":64,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

/// The events of a stream: the data of each, whose type its `event:` line says too.
fn events(text: &str) -> Vec<Value> {
    let event = |frame: &str| {
        let (name, data) = frame.split_once('\n').unwrap_or_else(|| panic!("{frame}"));
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
        data
    };
    text.split("\n\n").filter(|frame| !frame.is_empty()).map(event).collect()
}

/// The types of events, each once where it comes several times in a row.
fn types(events: &[Value]) -> Vec<&str> {
    let mut types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    types.dedup();
    types
}

#[tokio::test]
async fn a_message_is_answered_whole() {
    let rig = Rig::saying(" ok").await;
    let answer = rig.post("/v1/messages?beta=true", &messages("")).await;
    assert_eq!((answer.status, answer.header("content-type")), (OK, "application/json"));
    assert!(!answer.header("request-id").is_empty());
    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
    let mut message = answer.json();
    let id = message["id"].take();
    assert!(id.as_str().unwrap().starts_with("msg_"), "{id}");
    assert_eq!(
        message,
        json!({"id": null, "type": "message", "role": "assistant", "model": "scripted",
            "content": [{"type": "text", "text": " ok", "citations": null}],
            "stop_reason": "end_turn", "stop_sequence": null, "stop_details": null,
            "usage": {"input_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 4, "output_tokens_details": {"thinking_tokens": 0}, "service_tier": "standard"},
            "diagnostics": null})
    );
}

#[tokio::test]
async fn a_streamed_message_adds_up_to_the_whole_one() {
    let rig = Rig::saying("yes, “indeed” – 好").await;
    let whole = rig.post("/v1/messages", &messages("")).await.json();
    let streamed = rig.post("/v1/messages", &messages(r#","stream":true"#)).await;
    assert_eq!((streamed.status, streamed.header("content-type")), (OK, "text/event-stream"));
    let events = events(&streamed.text);
    assert_eq!(
        types(&events),
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, whole["content"][0]["text"].as_str().unwrap());
    let end = &events[events.len() - 2];
    assert_eq!(end["delta"], json!({"stop_reason": "end_turn", "stop_sequence": null, "stop_details": null}));
    assert_eq!(end["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
}

#[tokio::test]
async fn what_was_reused_is_told_before_the_first_word() {
    let rig = Rig::saying(" ok").await;
    let first = rig.post("/v1/messages", &messages("")).await.json();
    let total = first["usage"]["input_tokens"].as_u64().unwrap();
    let again = rig.post("/v1/messages", &messages(r#","stream":true"#)).await;
    let start = &events(&again.text)[0]["message"]["usage"];
    let (input, cached) =
        (start["input_tokens"].as_u64().unwrap(), start["cache_read_input_tokens"].as_u64().unwrap());
    assert!(cached >= 16, "{start}");
    assert_eq!(input + cached, total);
}

#[tokio::test]
async fn tokens_are_counted_without_computing_anything() {
    let rig = Rig::saying(" ok").await;
    let body = r#"{"model":"scripted","system":"be brief","messages":[{"role":"user","content":"hi"}]}"#;
    let counted = rig.post("/v1/messages/count_tokens", body).await;
    assert_eq!((counted.status, rig.engine.records().len()), (OK, 0));
    let asked = body.replacen('{', r#"{"max_tokens":1,"#, 1);
    let usage = rig.post("/v1/messages", &asked).await.json()["usage"].take();
    assert_eq!(counted.json(), json!({"input_tokens": usage["input_tokens"]}));
}

#[tokio::test]
async fn a_bound_of_no_tokens_reads_the_prompt_and_says_nothing() {
    let rig = Rig::saying(" ok").await;
    let warm = rig.post("/v1/messages", &messages("").replace("64", "0")).await;
    let message = warm.json();
    assert_eq!(
        (warm.status, &message["content"], &message["stop_reason"]),
        (OK, &json!([]), &"max_tokens".into())
    );
    assert_eq!(
        (&message["usage"]["output_tokens"], &message["usage"]["input_tokens"]),
        (&json!(0), &json!(20))
    );
    let streamed = rig.post("/v1/messages", &messages(r#","stream":true"#).replace("64", "0")).await;
    assert_eq!(types(&events(&streamed.text)), ["message_start", "message_delta", "message_stop"]);
    let then = rig.post("/v1/messages", &messages("")).await.json();
    assert!(then["usage"]["cache_read_input_tokens"].as_u64().unwrap() >= 16, "{then}");
}

#[tokio::test]
async fn the_stop_sequence_that_came_is_named() {
    let rig = Rig::saying("one two three").await;
    let answer = rig.post("/v1/messages", &messages(r#","stop_sequences":["zero"," two"]"#)).await.json();
    assert_eq!(answer["content"][0]["text"], "one");
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&"stop_sequence".into(), &" two".into()));
}

#[tokio::test]
async fn errors_have_the_apis_shape_and_the_requests_id() {
    let rig = Rig::with(" ok", |config, _| config.api_key = Some(ApiKey::new("sk-1").unwrap()));
    rig.ready().await;
    let with_key = |path: &str, body: &str| {
        let mut request = post(path, body);
        request.headers_mut().insert("x-api-key", "sk-1".parse().unwrap());
        request
    };
    let of_page = |origin: &str| {
        let mut request = with_key("/v1/messages", &messages(""));
        request.headers_mut().insert("origin", origin.parse().unwrap());
        request
    };
    let mut form = with_key("/v1/messages", &messages(""));
    form.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    for (request, status, kind, words) in [
        (post("/v1/messages", &messages("")), 401, "authentication_error", "no valid API key"),
        (of_page("https://evil.example"), 403, "permission_error", "evil.example"),
        (form, 415, "invalid_request_error", "application/json"),
        (with_key("/v1/messages", "{"), 400, "invalid_request_error", "not a JSON object"),
        (with_key("/v1/messages", "{}"), 400, "invalid_request_error", "max_tokens"),
        (with_key("/v1/messages", &messages(r#","top_k":-1"#)), 400, "invalid_request_error", "top_k: "),
        (
            with_key("/v1/messages", &messages("").replace("scripted", "gpt-4o")),
            404,
            "not_found_error",
            "gpt-4o",
        ),
        (with_key("/v1/messages/count_tokens", "{}"), 400, "invalid_request_error", "messages"),
    ] {
        let answer = rig.send(request).await;
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["type"], &body["error"]["type"]),
            (status, &"error".into(), &kind.into())
        );
        assert!(body["error"]["message"].as_str().unwrap().contains(words), "{body}");
        assert_eq!(body["request_id"], answer.header("request-id"));
    }
    let long = messages("").replace("hi", &"long ".repeat(2_000));
    let too_long = rig.send(with_key("/v1/messages", &long)).await;
    assert_eq!(too_long.status, 400);
    let message = too_long.json()["error"]["message"].take();
    assert!(message.as_str().unwrap().starts_with("prompt is too long: "), "{message}");
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_overloaded() {
    let rig = Rig::saying(" ok").await;
    rig.engine.drain(After::Park, Duration::ZERO).await.unwrap();
    let answer = rig.post("/v1/messages", &messages("")).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (529, &"overloaded_error".into()));
    assert_eq!(answer.header("retry-after"), "30");
}

#[tokio::test]
async fn a_thread_is_refused_by_the_name_at_which_clients_send_the_conversation_whole() {
    let rig = Rig::saying(" ok").await;
    for thread in [r#"{"type":"create"}"#, r#"{"type":"continue","previous_message_id":"msg_1"}"#] {
        let answer = rig.post("/v1/messages", &messages(&format!(r#","thread":{thread}"#))).await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (400, &"invalid_request_error".into()));
        assert_eq!(answer.json()["error"]["details"]["error_code"], "thread_unsupported_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_mid_stream_is_an_error_event_and_no_stop() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let response = rig.call(post("/v1/messages", &messages(r#","stream":true"#))).await;
    let mut body = response.into_body().into_data_stream();
    let mut text = String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap();
    rig.steering.release(Outcome::Run);
    rig.steering.release(Outcome::Error);
    while let Some(chunk) = body.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let events = events(&text);
    assert_eq!(events[0]["type"], "message_start");
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&"error".into(), &"api_error".into()));
    assert!(!text.contains("message_stop") && !text.contains("the script says so"), "{text}");
    rig.steering.free_steps();
}

#[tokio::test(start_paused = true)]
async fn a_silent_prefill_is_shown_in_pings() {
    let rig = Rig::saying(" ok").await;
    rig.steering.hold_steps();
    let response = rig.call(post("/v1/messages", &messages(r#","stream":true"#))).await;
    let mut body = response.into_body().into_data_stream();
    let first = body.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: message_start\n"));
    // Time is paused and jumps whenever everybody waits, so that silence costs the test nothing.
    let second = body.next().await.unwrap().unwrap();
    assert_eq!(second, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
    rig.steering.free_steps();
    while body.next().await.is_some() {}
}

#[tokio::test]
async fn models_are_told_in_the_words_of_who_asks() {
    let rig = Rig::saying(" ok").await;
    let get = |path: &str| {
        Request::get(path).header("host", "localhost:8642").header("anthropic-version", "2023-06-01")
    };
    let list = rig.send(get("/v1/models").body(Body::empty()).unwrap()).await;
    let list_json = list.json();
    let can = list_json["data"][0]["capabilities"].clone();
    assert_eq!(
        (&can["structured_outputs"]["supported"], &can["thinking"]["supported"]),
        (&true.into(), &false.into())
    );
    assert_eq!(can["image_input"], json!({"supported": false}));
    assert_eq!(
        list_json["data"][0],
        json!({"type": "model", "id": "scripted", "display_name": "scripted", "created_at": "1970-01-01T00:00:00Z",
               "lifecycle": "active", "max_input_tokens": 2048, "max_tokens": 2048, "capabilities": can})
    );
    assert_eq!((&list_json["first_id"], &list_json["has_more"]), (&"scripted".into(), &false.into()));
    assert!(!list.header("request-id").is_empty());
    let one = rig.send(get("/v1/models/scripted").body(Body::empty()).unwrap()).await;
    assert_eq!(one.json(), list_json["data"][0]);
    let none = rig.send(get("/v1/models/gpt-4o").body(Body::empty()).unwrap()).await;
    assert_eq!((none.status, &none.json()["error"]["type"]), (404, &"not_found_error".into()));
    assert_eq!(rig.get("/v1/models").await.json()["object"], "list");
    assert_eq!(rig.get("/v1/models/gpt-4o").await.json()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn who_is_asking_is_the_session_a_coding_agent_names_and_what_was_dropped_is_on_record() {
    let rig = Rig::saying(" ok").await;
    let more = r#","metadata":{"user_id":"{\"device\":1}"},"tools":[{"type":"web_search_20260318","name":"web_search"}]"#;
    let mut request = post("/v1/messages", &messages(more));
    request.headers_mut().insert("x-claude-code-session-id", "5d-c2".parse().unwrap());
    let answer = rig.send(request).await;
    let record = rig.get(&format!("/admin/requests/{}", answer.header("request-id"))).await.json();
    assert_eq!(record["agent"], "5d-c2");
    assert!(record["remarks"][0].as_str().unwrap().contains("web_search_20260318"), "{record}");
}

#[tokio::test]
async fn a_billing_line_that_changes_breaks_no_prefix() {
    let rig = Rig::saying(" ok").await;
    let ask = async |cch: &str| {
        let note = format!("x-anthropic-billing-header: cc_version=2.1.37.0d9; cch={cch};");
        let system =
            json!([{"type": "text", "text": note}, {"type": "text", "text": "Be brief. ".repeat(20)}]);
        let more = format!(r#","system":{system}"#);
        rig.post("/v1/messages", &messages(&more)).await.json()["usage"].take()
    };
    let total = ask("fa690").await["input_tokens"].as_u64().unwrap();
    let cached = ask("0be11").await["cache_read_input_tokens"].as_u64().unwrap();
    assert!(total - cached <= 16, "{cached} of {total}");
}

#[tokio::test]
async fn a_system_message_in_the_middle_stays_there_also_where_the_template_refuses_it() {
    let steering = Steering::free();
    let script = Script::Says(" ok".to_owned());
    let model = ScriptedModel { script, text: engine::testing::strict_text, ..ScriptedModel::default() };
    let rig = Rig::around(steering.clone(), Arc::new(ScriptedLoader::new(model, steering)), |_, _| {});
    rig.ready().await;
    let first = "a long beginning ".repeat(8);
    let ask = async |more: &str| {
        let body = format!(
            r#"{{"max_tokens":9,"system":"s","messages":[{{"role":"user","content":"{first}"}}{more}]}}"#
        );
        rig.post("/v1/messages", &body).await
    };
    assert_eq!(ask("").await.status, OK);
    let later = ask(r#",{"role":"assistant","content":" ok"},{"role":"user","content":"go"},{"role":"system","content":"now"}"#).await;
    assert_eq!(later.status, OK, "{later:?}");
    let cached = later.json()["usage"]["cache_read_input_tokens"].as_u64().unwrap();
    assert!(cached >= 128, "what stands before it is found again: {cached}");
    let record = rig.get(&format!("/admin/requests/{}", later.header("request-id"))).await.json();
    assert!(record["remarks"][0].as_str().unwrap().contains("one system message"), "{record}");
}

#[tokio::test]
async fn who_asks_is_told_in_what_a_request_differs_from_the_one_before() {
    let rig = Rig::saying(" ok").await;
    let ask = async |more: &str, previous: &str| {
        let more = format!(r#"{more},"diagnostics":{{"previous_message_id":{previous}}}"#);
        rig.post("/v1/messages", &messages(&more)).await.json()
    };
    let first = ask(r#","system":"a""#, "null").await;
    assert_eq!(first["diagnostics"], Value::Null);
    let id = first["id"].to_string();
    assert_eq!(ask(r#","system":"a""#, &id).await["diagnostics"], Value::Null);
    let changed = ask(r#","system":"b""#, &id).await;
    let missed = &changed["usage"]["input_tokens"];
    assert_eq!(
        changed["diagnostics"],
        json!({"cache_miss_reason": {"type": "system_changed", "cache_missed_input_tokens": missed}})
    );
    let unknown = ask("", r#""msg_0""#).await;
    assert_eq!(unknown["diagnostics"], json!({"cache_miss_reason": {"type": "previous_message_not_found"}}));
}
