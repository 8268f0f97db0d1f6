//! OpenAI's Responses API, as its clients see it.

use engine::testing::Outcome;
use futures_util::StreamExt;
use serde_json::json;

use super::*;

fn body(more: &str) -> String {
    format!(r#"{{"model":"scripted","input":"hi"{more}}}"#)
}

/// The events of a stream, whose numbers grow one by one, and whose types their `event:` lines say too.
fn events(text: &str) -> Vec<Value> {
    let event = |(n, frame): (usize, &str)| {
        let (name, data) = frame.split_once('\n').unwrap_or_else(|| panic!("{frame}"));
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
        assert_eq!(data["sequence_number"], n);
        data
    };
    text.split("\n\n").filter(|frame| !frame.is_empty()).enumerate().map(event).collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    let mut types: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap())
        .collect();
    types.dedup();
    types
}

#[tokio::test]
async fn an_input_is_responded_to_whole() {
    let rig = Rig::saying(" ok").await;
    let answer = rig.post("/v1/responses", &body(r#","store":false,"metadata":{"a":"b"}"#)).await;
    assert_eq!((answer.status, answer.header("content-type")), (OK, "application/json"));
    let response = answer.json();
    for (field, want) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("model", json!("scripted")),
        ("error", json!(null)),
        ("incomplete_details", json!(null)),
        ("parallel_tool_calls", json!(true)),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("metadata", json!({"a": "b"})),
        ("store", json!(false)),
        (
            "usage",
            json!({"input_tokens": 20, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                   "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 24}),
        ),
    ] {
        assert_eq!(response[field], want, "{field}");
    }
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    let item = &response["output"][0];
    assert_eq!(
        (&item["type"], &item["role"], &item["status"]),
        (&"message".into(), &"assistant".into(), &"completed".into())
    );
    assert_eq!(
        item["content"],
        json!([{"type": "output_text", "text": " ok", "annotations": [], "logprobs": []}])
    );
}

#[tokio::test]
async fn a_streamed_response_builds_the_whole_one() {
    let rig = Rig::saying("yes, “indeed” – 好").await;
    let answer = rig.post("/v1/responses", &body(r#","stream":true"#)).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events = events(&answer.text);
    assert_eq!(
        types(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed"
        ]
    );
    let response = &events.last().unwrap()["response"];
    let deltas: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(deltas, response["output"][0]["content"][0]["text"].as_str().unwrap());
    assert_eq!(deltas, "yes, “indeed” – 好");
    let id = &response["output"][0]["id"];
    let of_item = |event: &Value| event.get("item_id").or(event["item"].get("id")).cloned();
    assert!(events.iter().filter_map(of_item).all(|other| other == *id));
    assert!(
        events.iter().filter_map(|event| event.get("response")).all(|other| other["id"] == response["id"])
    );
    let kept = rig.get(&format!("/v1/responses/{}", response["id"].as_str().unwrap())).await;
    assert_eq!(kept.json(), *response, "what was streamed is what is kept");
}

#[tokio::test]
async fn an_answer_that_is_cut_is_incomplete() {
    let rig = Rig::saying("a long story").await;
    let whole = rig.post("/v1/responses", &body(r#","max_output_tokens":2"#)).await.json();
    assert_eq!(
        (&whole["status"], &whole["incomplete_details"], &whole["output"][0]["status"]),
        (&"incomplete".into(), &json!({"reason": "max_output_tokens"}), &"incomplete".into())
    );
    let streamed = rig.post("/v1/responses", &body(r#","max_output_tokens":2,"stream":true"#)).await;
    assert_eq!(types(&events(&streamed.text)).last(), Some(&"incomplete"));
}

#[tokio::test]
async fn a_response_is_gone_on_with_and_forgotten() {
    let rig = Rig::saying(" ok").await;
    let first = rig.post("/v1/responses", &body(r#","instructions":"be brief""#)).await.json();
    let id = first["id"].as_str().unwrap();
    let go_on = body(&format!(r#","previous_response_id":"{id}""#)).replace("hi", "why");
    let second = rig.post("/v1/responses", &go_on).await.json();
    assert_eq!(second["previous_response_id"], id);
    // The same conversation, sent whole.
    let whole = r#"{"model":"scripted","store":false,"input":[{"role":"user","content":"hi"},
        {"role":"assistant","content":[{"type":"output_text","text":" ok"}]},{"role":"user","content":"why"}]}"#;
    let whole = rig.post("/v1/responses", whole).await.json();
    assert_eq!(second["usage"]["input_tokens"], whole["usage"]["input_tokens"]);

    let path = format!("/v1/responses/{id}");
    let request = Request::delete(&path).header("host", "localhost:8642").body(Body::empty()).unwrap();
    let deleted = rig.send(request).await;
    assert_eq!(deleted.json(), json!({"id": id, "object": "response", "deleted": true}));
    assert_eq!(rig.get(&path).await.error(), (404, "response_not_found".into(), "id".into()));
    let gone = rig.post("/v1/responses", &go_on).await.error();
    assert_eq!(gone, (400, "previous_response_not_found".into(), "previous_response_id".into()));
}

#[tokio::test]
async fn a_response_is_its_owners_and_one_that_is_not_stored_is_nobodys() {
    let rig = Rig::saying(" ok").await;
    let with_key = |mut request: Request<Body>, key: &str| {
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        request
    };
    let kept = rig.send(with_key(post("/v1/responses", &body("")), "sk-1")).await.json();
    let get = || {
        let path = format!("/v1/responses/{}", kept["id"].as_str().unwrap());
        Request::get(path).header("host", "localhost:8642").body(Body::empty()).unwrap()
    };
    assert_eq!(rig.send(with_key(get(), "sk-1")).await.status, OK);
    assert_eq!(rig.send(with_key(get(), "sk-2")).await.status, 404);
    assert_eq!(rig.send(get()).await.status, 404);
    let fleeting = rig.post("/v1/responses", &body(r#","store":false"#)).await.json();
    assert_eq!(rig.get(&format!("/v1/responses/{}", fleeting["id"].as_str().unwrap())).await.status, 404);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_has_the_code_that_agents_know() {
    let rig = Rig::saying(" ok").await;
    let long = body("").replace("hi", &"long ".repeat(2_000));
    assert_eq!(
        rig.post("/v1/responses", &long).await.error(),
        (400, "context_length_exceeded".into(), "input".into())
    );
    let bad = rig.post("/v1/responses", &body(r#","background":true"#)).await.error();
    assert_eq!(bad, (400, "unsupported_parameter".into(), "background".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_mid_stream_is_a_failed_response() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let response = rig.call(post("/v1/responses", &body(r#","stream":true"#))).await;
    let mut stream = response.into_body().into_data_stream();
    let mut text = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    rig.steering.release(Outcome::Run);
    rig.steering.release(Outcome::Error);
    while let Some(chunk) = stream.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let events = events(&text);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&"response.failed".into(), &"failed".into()));
    assert_eq!(last["response"]["error"]["code"], "internal_error");
    assert!(!text.contains("the script says so"), "{text}");
    rig.steering.free_steps();
}

#[tokio::test(start_paused = true)]
async fn a_silent_prefill_is_shown_in_events() {
    let rig = Rig::saying(" ok").await;
    rig.steering.hold_steps();
    let response = rig.call(post("/v1/responses", &body(r#","stream":true"#))).await;
    let mut stream = response.into_body().into_data_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: response.created\n"));
    let second = stream.next().await.unwrap().unwrap();
    assert!(second.starts_with(b"event: response.in_progress\n"), "{second:?}");
    rig.steering.free_steps();
    while stream.next().await.is_some() {}
}
