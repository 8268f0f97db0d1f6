//! `response_format` on both generation calls.

use serde_json::json;

use super::*;

fn schema() -> Value {
    json!({
        "type": "json_schema",
        "json_schema": {
            "name": "weekday",
            "description": "a day of the week",
            "strict": true,
            "schema": {
                "type": "object",
                "properties": {"day": {"type": "string", "enum": ["mon", "tue"]}},
                "required": ["day"],
                "additionalProperties": false,
            },
        },
    })
}

#[tokio::test]
async fn an_answer_is_of_the_schema_though_the_model_would_say_something_else() {
    let rig = Rig::saying(r#"{"day":"wed"}"#).await;
    for (path, mut body) in [
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "when?"}]})),
        ("/v1/completions", json!({"prompt": "when?", "max_tokens": 400})),
    ] {
        body["response_format"] = schema();
        let answer = rig.post(path, &body.to_string()).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        let choice = &answer.json()["choices"][0];
        assert_eq!(choice["finish_reason"], "stop");
        let text = choice["text"].as_str().or(choice["message"]["content"].as_str()).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        assert!(value == json!({"day": "mon"}) || value == json!({"day": "tue"}), "{text}");
    }
}

#[tokio::test]
async fn an_answer_has_no_fields_but_those_that_its_schema_names_through_every_api() {
    let rig = Rig::saying(r#"{"day":"mon","noon":true}"#).await;
    // As pydantic writes it of a class: nothing is said of other fields.
    let schema = json!({"properties": {"day": {"type": "string"}}, "required": ["day"], "title": "Day", "type": "object"});
    let messages = json!([{"role": "user", "content": "when?"}]);
    for (path, mut body, place) in [
        (
            "/v1/chat/completions",
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "day", "schema": schema}}}),
            "/choices/0/message/content",
        ),
        (
            "/v1/responses",
            json!({"input": "when?", "text": {"format": {"type": "json_schema", "name": "day", "schema": schema}}}),
            "/output/0/content/0/text",
        ),
        (
            "/v1/messages",
            json!({"max_tokens": 400, "output_config": {"format": {"type": "json_schema", "schema": schema}}}),
            "/content/0/text",
        ),
        ("/api/chat", json!({"model": "scripted", "stream": false, "format": schema}), "/message/content"),
    ] {
        if body["input"].is_null() {
            body["messages"] = messages.clone();
        }
        let answer = rig.post(path, &body.to_string()).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        let answer = answer.json();
        let text =
            answer.pointer(place).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {answer}"));
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), json!({"day": "mon"}), "{path}");
    }
}

#[tokio::test]
async fn a_json_object_ends_with_its_brace_streamed_too() {
    let rig = Rig::saying(r#"{"a":1} and so on"#).await;
    let more = r#","response_format":{"type":"json_object"}"#;
    let answer = rig.post("/v1/chat/completions", &chat(more)).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], r#"{"a":1}"#);
    let streamed = rig.post("/v1/chat/completions", &chat(&format!(r#"{more},"stream":true"#))).await;
    assert!(
        streamed.text.contains(r#""finish_reason":"stop""#) && streamed.text.ends_with("data: [DONE]\n\n")
    );
    assert!(!streamed.text.contains(r#"{"content":" "}"#), "{}", streamed.text);
    let short = rig.post("/v1/chat/completions", &chat(&format!(r#"{more},"max_tokens":3"#))).await;
    assert_eq!(short.json()["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn a_schema_that_cannot_be_held_is_refused_with_its_reason() {
    let rig = Rig::saying("a").await;
    for (schema, pointer) in [
        (json!({"type": "objekt"}), "#/type"),
        (json!([]), "#"),
        (json!({"properties": {"a": {"$ref": "https://example.com/s"}}}), "#/properties/a/$ref"),
    ] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        for body in [
            json!({"messages": [{"role": "user", "content": "x"}], "response_format": format}),
            json!({"prompt": "x", "response_format": format}),
        ] {
            let path = if body["prompt"].is_null() { "/v1/chat/completions" } else { "/v1/completions" };
            let error = rig.post(path, &body.to_string()).await.error();
            let param = format!("response_format.json_schema.schema{pointer}");
            assert_eq!(error, (400, "invalid_value".into(), param), "{body}");
        }
    }
}
