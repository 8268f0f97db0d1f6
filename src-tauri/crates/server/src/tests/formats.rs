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

/// A schema that goes beyond a bound, and the words for that.
fn beyond_bounds() -> Vec<(Value, &'static str)> {
    let mut deep = json!({"type": "null"});
    (0..200).for_each(|_| deep = json!({"items": deep.take()}));
    let row: serde_json::Map<String, Value> =
        (0..3_000).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}))).collect();
    let wide: serde_json::Map<String, Value> = (0..3_000).map(|i| (format!("p{i}"), json!(true))).collect();
    let listed: Vec<Value> = (0..30_000).map(Value::from).collect();
    let pattern = |pattern: String| json!({"type": "object", "properties": {"a": {"pattern": pattern}}});
    vec![
        (deep, "nested more than 127 deep"),
        (json!({"$ref": "#/$defs/d0", "$defs": row}), "nested more than 2000 deep"),
        (json!({"properties": wide}), "more properties than 2500"),
        (json!({"enum": listed}), "more than 20000 parts"),
        (json!({"description": "x".repeat(300_000)}), "longer than 262144 bytes"),
        (pattern("a".repeat(20_000)), "at most 16384"),
        (pattern(format!("{}a{}", "(".repeat(200), ")*".repeat(200))), "nested more than 100 deep"),
        (json!({"$ref": "#"}), "no answer fits"),
        (json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}), "schema"),
    ]
}

#[tokio::test]
async fn a_schema_beyond_a_bound_is_400_and_says_which_and_the_server_goes_on() {
    let rig = Rig::saying(r#"{"a":1}"#).await;
    for (schema, words) in beyond_bounds() {
        for strict in [false, true] {
            let format = json!({
                "type": "json_schema",
                "json_schema": {"name": "x", "strict": strict, "schema": schema},
            });
            let body = json!({"messages": [{"role": "user", "content": "x"}], "response_format": format});
            let answer = rig.post("/v1/chat/completions", &body.to_string()).await;
            let (status, _, param) = answer.error();
            assert_eq!(status, 400, "{words}: {}", answer.text);
            assert!(param.starts_with("response_format"), "{words}: {param}");
            assert!(answer.text.contains(words), "{words}: {}", answer.text);
        }
    }
    let object = r#","response_format":{"type":"json_object"}"#;
    assert_eq!(rig.post("/v1/chat/completions", &chat(object)).await.status, OK);
}

#[tokio::test]
async fn one_schema_holds_many_answers_each_from_its_beginning() {
    let rig = Rig::saying(r#"{"day":"wed"}"#).await;
    let mut body = json!({"messages": [{"role": "user", "content": "when?"}]});
    body["response_format"] = schema();
    let body = body.to_string();
    let answers =
        futures_util::future::join_all((0..6).map(|_| rig.post("/v1/chat/completions", &body))).await;
    for answer in answers {
        let text = answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(value == json!({"day": "mon"}) || value == json!({"day": "tue"}), "{text}");
    }
}
