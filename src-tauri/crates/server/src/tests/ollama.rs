//! Ollama's API, as its clients see it.

use std::time::Duration;

use engine::After;
use engine::testing::Outcome;
use futures_util::StreamExt;
use serde_json::json;

use super::*;

fn chat_body(more: &str) -> String {
    format!(r#"{{"model":"scripted:latest","messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test]
async fn a_chat_comes_in_lines_unless_it_is_wanted_whole() {
    let rig = Rig::saying("yes, “indeed” – 好").await;
    let streamed = rig.post("/api/chat", &chat_body(r#","tools":[],"options":{}"#)).await;
    assert_eq!((streamed.status, streamed.header("content-type")), (OK, "application/x-ndjson"));
    let lines = lines(&streamed.text);
    let (last, others) = lines.split_last().unwrap();
    assert!(others.iter().all(|line| line["done"] == false && line["model"] == "scripted:latest"));
    let said: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["prompt_eval_count"]),
        (&true.into(), &"stop".into(), &20.into())
    );
    let nanoseconds = |field: &str| last[field].as_u64().unwrap_or_else(|| panic!("{field}: {last}"));
    let parts = ["load_duration", "prompt_eval_duration", "eval_duration"].map(nanoseconds);
    assert_eq!(nanoseconds("total_duration"), parts.iter().sum::<u64>());

    let whole = rig.post("/api/chat", &chat_body(r#","stream":false"#)).await;
    assert_eq!(whole.header("content-type"), "application/json");
    let whole = whole.json();
    assert_eq!((whole["message"]["content"].as_str(), &whole["done"]), (Some(said.as_str()), &true.into()));
    assert_eq!(whole["eval_count"], last["eval_count"]);
}

#[tokio::test]
async fn a_prompt_is_answered_by_the_template_or_as_it_is() {
    let rig = Rig::saying(" ok").await;
    let ask = async |more: &str| {
        let body = format!(r#"{{"model":"scripted","prompt":"hi","stream":false{more}}}"#);
        rig.post("/api/generate", &body).await.json()
    };
    let answer = ask("").await;
    assert_eq!((&answer["response"], &answer["prompt_eval_count"]), (&" ok".into(), &20.into()));
    assert_eq!(ask(r#","raw":true"#).await["prompt_eval_count"], 2);
    let cut = ask(r#","options":{"num_predict":1}"#).await;
    assert_eq!((&cut["response"], &cut["done_reason"]), (&" ".into(), &"length".into()));
}

#[tokio::test]
async fn asking_for_nothing_asks_whether_the_model_is_there() {
    let rig = Rig::saying(" ok").await;
    for (path, body, reason) in [
        ("/api/chat", r#"{"model":"scripted","messages":[]}"#, "load"),
        ("/api/generate", r#"{"model":"scripted","keep_alive":"5m"}"#, "load"),
        ("/api/generate", r#"{"model":"scripted","keep_alive":0}"#, "unload"),
    ] {
        let answer = rig.post(path, body).await;
        let json = answer.json();
        assert_eq!((answer.status, &json["done"], &json["done_reason"]), (OK, &true.into(), &reason.into()));
    }
    assert_eq!(rig.engine.records().len(), 0);
    let none = rig.post("/api/generate", r#"{"model":"llama9"}"#).await;
    assert_eq!(none.status, 404);
    assert!(none.json()["error"].as_str().unwrap().contains("llama9"));
}

#[tokio::test]
async fn models_are_listed_with_tags_and_shown_by_either_name() {
    let rig = Rig::saying(" ok").await;
    let tags = rig.get("/api/tags").await.json();
    let model = &tags["models"][0];
    assert_eq!((&model["name"], &model["model"]), (&"scripted:latest".into(), &"scripted:latest".into()));
    assert_eq!(model["digest"], "07".repeat(32));
    assert_eq!(
        model["details"],
        json!({"parent_model": "", "format": "gguf", "family": "scripted", "families": ["scripted"],
               "parameter_size": "135M", "quantization_level": "F16"})
    );
    let running = rig.get("/api/ps").await.json();
    assert_eq!(
        (&running["models"][0]["name"], &running["models"][0]["context_length"]),
        (&model["name"], &2048.into())
    );
    for body in [r#"{"model":"scripted:latest"}"#, r#"{"name":"scripted"}"#] {
        let shown = rig.post("/api/show", body).await.json();
        assert_eq!(shown["model_info"]["general.architecture"], "scripted");
        assert_eq!(shown["model_info"]["scripted.context_length"], 2048);
        assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
        assert_eq!(shown["details"], model["details"]);
    }
    assert_eq!(rig.post("/api/show", r#"{"model":"llama9"}"#).await.status, 404);
    // The name that its list gives works in every API.
    let openai = chat("").replacen('{', r#"{"model":"scripted:latest","#, 1);
    assert_eq!(rig.post("/v1/chat/completions", &openai).await.status, OK);
}

#[tokio::test]
async fn probes_are_answered() {
    let rig = Rig::saying(" ok").await;
    for method in ["GET", "HEAD"] {
        for path in ["/", "/api/version", "/api/tags"] {
            let request = Request::builder().method(method).uri(path).header("host", "localhost:8642");
            assert_eq!(rig.send(request.body(Body::empty()).unwrap()).await.status, OK, "{method} {path}");
        }
    }
    assert!(rig.get("/api/version").await.json()["version"].is_string());
}

#[tokio::test]
async fn errors_are_a_sentence_and_so_is_what_leads_nowhere() {
    let rig = Rig::saying(" ok").await;
    let bad = rig.post("/api/chat", &chat_body(r#","options":{"top_k":-1}"#)).await;
    assert_eq!((bad.status, bad.json()), (400, json!({"error": "options.top_k: -1 is below 0"})));
    let nowhere = rig.post("/api/pull", "{}").await;
    assert_eq!((nowhere.status, nowhere.json()["error"].is_string()), (404, true));
    assert_eq!(rig.get("/api/chat").await.status, 405);
    rig.engine.drain(After::Park, Duration::ZERO).await.unwrap();
    let parked = rig.post("/api/chat", &chat_body("")).await;
    assert_eq!(
        (parked.status, parked.header("retry-after"), parked.json()["error"].is_string()),
        (503, "30", true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_mid_stream_is_a_line_of_error() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let response = rig.call(post("/api/chat", &chat_body(""))).await;
    let mut stream = response.into_body().into_data_stream();
    rig.steering.release(Outcome::Run);
    rig.steering.release(Outcome::Error);
    let mut text = String::new();
    while let Some(chunk) = stream.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let lines = lines(&text);
    assert!(lines.last().unwrap()["error"].is_string(), "{text}");
    assert!(!text.contains(r#""done":true"#) && !text.contains("the script says so"), "{text}");
    rig.steering.free_steps();
}

#[tokio::test(start_paused = true)]
async fn a_silent_prefill_is_shown_in_lines_of_nothing() {
    let rig = Rig::saying(" ok").await;
    rig.steering.hold_steps();
    let response = rig.call(post("/api/chat", &chat_body(""))).await;
    let mut stream = response.into_body().into_data_stream();
    let first = stream.next().await.unwrap().unwrap();
    let line: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!((&line["message"]["content"], &line["done"]), (&"".into(), &false.into()));
    rig.steering.free_steps();
    while stream.next().await.is_some() {}
}

#[tokio::test]
async fn a_body_of_any_type_is_taken_from_whoever_is_no_browser() {
    let rig = Rig::saying(" ok").await;
    let sent = |content_type: Option<&str>, headers: &[(&'static str, &str)]| {
        let mut request = post("/api/chat", &chat_body(r#","stream":false"#));
        request.headers_mut().remove("content-type");
        if let Some(content_type) = content_type {
            request.headers_mut().insert("content-type", content_type.parse().unwrap());
        }
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        request
    };
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        assert_eq!(rig.send(sent(content_type, &[])).await.status, OK, "{content_type:?}");
        for (headers, status) in [
            (&[("origin", "http://localhost:8642")][..], 415),
            (&[("sec-fetch-site", "none")][..], 415),
            (&[("sec-fetch-site", "cross-site")][..], 403),
            (&[("sec-fetch-mode", "no-cors")][..], 415),
            (&[("sec-fetch-dest", "empty")][..], 415),
            (&[("origin", "https://evil.example")][..], 403),
        ] {
            assert_eq!(
                rig.send(sent(content_type, headers)).await.status,
                status,
                "{content_type:?} {headers:?}"
            );
        }
    }
    // Other APIs have no such clients.
    let mut other = post("/v1/chat/completions", &chat(""));
    other.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(rig.send(other).await.status, 415);
}
