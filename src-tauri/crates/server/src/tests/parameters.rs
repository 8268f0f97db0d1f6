//! Parameters that only a loaded model can judge, agents, and bodies that make no sense.

use super::*;

#[tokio::test]
async fn tokens_outside_the_vocabulary_and_empty_prompts_are_refused() {
    let rig = Rig::saying("a").await;
    for (body, param) in [
        (r#"{"prompt":[1,259]}"#, "prompt"),
        (r#"{"prompt":[4294967295]}"#, "prompt"),
        (r#"{"prompt":""}"#, "prompt"),
        (r#"{"prompt":[]}"#, "prompt"),
        (r#"{"prompt":[[]]}"#, "prompt"),
        (r#"{"prompt":"a","logit_bias":{"259":1}}"#, "logit_bias"),
    ] {
        let error = rig.post("/v1/completions", body).await.error();
        assert_eq!(error, (400, "invalid_value".into(), param.into()), "{body}");
    }
    assert_eq!(rig.post("/v1/completions", r#"{"prompt":[104,105]}"#).await.status, OK);
}

#[tokio::test]
async fn a_bad_parameter_is_a_400_that_names_it_streamed_or_not() {
    let rig = Rig::saying("a").await;
    for stream in ["", r#","stream":true"#] {
        for (more, code, param) in [
            (r#","temperature":9"#, "invalid_value", "temperature"),
            (r#","n":17"#, "invalid_value", "n"),
            (r#","tools":[{}]"#, "missing_required_parameter", "tools[0].type"),
            (
                r#","response_format":{"type":"json_schema","json_schema":{"schema":{"type":"objekt"}}}"#,
                "invalid_value",
                "response_format.json_schema.schema#/type",
            ),
            (r#","temprature":1"#, "unknown_parameter", "temprature"),
        ] {
            let answer = rig.post("/v1/chat/completions", &chat(&format!("{more}{stream}"))).await;
            assert_eq!(answer.error(), (400, code.into(), param.into()), "{more}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_objects_are_400() {
    let rig = Rig::saying("a").await;
    for body in ["", "{", "[]", "null", "\"x\"", "{\"messages\":[}", "\u{0}"] {
        for path in ["/v1/chat/completions", "/v1/completions"] {
            assert_eq!(
                rig.post(path, body).await.error(),
                (400, "invalid_json".into(), "-".into()),
                "{body}"
            );
        }
    }
}

/// The agent that the engine was told of for the last request.
async fn last_agent(rig: &Rig) -> Value {
    rig.get("/admin/requests").await.json()["requests"][0]["agent"].clone()
}

#[tokio::test]
async fn the_session_header_names_the_agent_before_anything_in_the_body() {
    let rig = Rig::saying("a").await;
    let mut request = post("/v1/chat/completions", &chat(r#","session_id":"body""#));
    request.headers_mut().insert("x-session-id", "header".parse().unwrap());
    assert_eq!(rig.send(request).await.status, OK);
    assert_eq!(last_agent(&rig).await, "header");
    rig.post("/v1/chat/completions", &chat(r#","metadata":{"user_id":"{\"id\":1}"}"#)).await;
    assert!(last_agent(&rig).await.as_str().unwrap().starts_with("h-"));
    rig.post("/v1/chat/completions", &chat("")).await;
    assert_eq!(last_agent(&rig).await, Value::Null);
}

#[tokio::test]
async fn a_session_header_of_another_form_is_refused_before_any_work() {
    let rig = Rig::saying("a").await;
    for bad in ["..", "a/b", "a b", ""] {
        let mut request = post("/v1/chat/completions", "this is not even JSON");
        request.headers_mut().insert("x-session-id", bad.parse().unwrap());
        let error = rig.send(request).await.error();
        assert_eq!(error, (400, "invalid_value".into(), "X-Session-ID".into()), "{bad}");
    }
    assert_eq!(rig.get("/admin/requests").await.json()["requests"], serde_json::json!([]));
}
