//! Streamed answers, frame by frame.

use engine::After;
use engine::testing::Outcome;
use futures_util::StreamExt;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_streamed_chat_is_role_deltas_finish_and_done() {
    let rig = Rig::saying(" ok").await;
    let answer = rig.post("/v1/chat/completions", &chat(r#","stream":true"#)).await;
    assert_eq!((answer.status, answer.header("content-type")), (OK, "text/event-stream"));
    let head = r#"data: {"id":"chatcmpl-…","object":"chat.completion.chunk","created":…,"model":"scripted","system_fingerprint":"fp_0707070707","choices":[{"index":0,"delta":"#;
    let want = [
        format!(r#"{head}{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]}}"#),
        format!(r#"{head}{{"content":" "}},"logprobs":null,"finish_reason":null}}]}}"#),
        format!(r#"{head}{{"content":"o"}},"logprobs":null,"finish_reason":null}}]}}"#),
        format!(r#"{head}{{"content":"k"}},"logprobs":null,"finish_reason":null}}]}}"#),
        format!(r#"{head}{{}},"logprobs":null,"finish_reason":"stop"}}]}}"#),
        "data: [DONE]".to_owned(),
    ];
    assert_eq!(answer.stable(), want.map(|frame| frame + "\n\n").concat());
}

#[tokio::test]
async fn usage_comes_in_a_chunk_of_its_own_when_asked_for() {
    let rig = Rig::saying(" ok").await;
    let more = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let frames = frames(&rig.post("/v1/chat/completions", &chat(more)).await);
    let (last, others) = frames.split_last().unwrap();
    assert!(
        others
            .iter()
            .all(|chunk| chunk["usage"].is_null() && chunk["choices"].as_array().unwrap().len() == 1)
    );
    assert_eq!(last["choices"], serde_json::json!([]));
    assert_eq!(
        last["usage"],
        serde_json::json!({"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24,
                           "prompt_tokens_details": {"cached_tokens": 0},
                           "completion_tokens_details": {"reasoning_tokens": 0}})
    );
}

#[tokio::test]
async fn a_streamed_completion_is_text_finish_and_done() {
    let rig = Rig::saying(" ok").await;
    let answer = rig.post("/v1/completions", r#"{"prompt":"so","stream":true,"max_tokens":2}"#).await;
    let head = r#"data: {"id":"cmpl-…","object":"text_completion","created":…,"model":"scripted","system_fingerprint":"fp_0707070707","choices":[{"index":0,"text":"#;
    let want = [
        format!(r#"{head}" ","logprobs":null,"finish_reason":null}}]}}"#),
        format!(r#"{head}"o","logprobs":null,"finish_reason":null}}]}}"#),
        format!(r#"{head}"","logprobs":null,"finish_reason":"length"}}]}}"#),
        "data: [DONE]".to_owned(),
    ];
    assert_eq!(answer.stable(), want.map(|frame| frame + "\n\n").concat());
}

#[tokio::test]
async fn streamed_log_probabilities_cover_every_token() {
    let rig = Rig::saying("yes").await;
    let more = r#","stream":true,"temperature":0,"logprobs":true"#;
    let frames = frames(&rig.post("/v1/chat/completions", &chat(more)).await);
    let tokens: Vec<String> = frames
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .map(|entry| entry["token"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(tokens[..3], ["y", "e", "s"]);
}

/// The JSON of an answer's frames, without `[DONE]`.
fn frames(answer: &Answer) -> Vec<Value> {
    let frames = answer.text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: "));
    frames.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// A stream that has begun, and its first bytes.
async fn begun(rig: &Rig, more: &str) -> (axum::body::BodyDataStream, String) {
    let request = post("/v1/chat/completions", &chat(&format!(r#","stream":true{more}"#)));
    let response = rig.call(request).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body().into_data_stream();
    let first = body.next().await.unwrap().unwrap();
    (body, String::from_utf8(first.to_vec()).unwrap())
}

/// What is left of a stream.
async fn rest(mut body: axum::body::BodyDataStream) -> String {
    let mut text = String::new();
    while let Some(chunk) = body.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_mid_stream_is_an_error_frame_and_no_done() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let (body, first) = begun(&rig, "").await;
    assert!(first.contains(r#""role":"assistant""#), "{first}");
    rig.steering.release(Outcome::Run);
    rig.steering.release(Outcome::Error);
    let text = rest(body).await;
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let error: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(
        (&error["error"]["type"], &error["error"]["code"]),
        (&"server_error".into(), &"internal_error".into())
    );
    assert!(!text.contains("[DONE]") && !text.contains("the script says so"), "{text}");
    rig.steering.free_steps();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_in_mid_stream_is_an_error_frame_and_no_done() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let (body, _) = begun(&rig, "").await;
    let steering = rig.steering.clone();
    blocking(move || steering.held_step()).await;
    rig.engine.begin_drain(After::Park, Duration::ZERO);
    rig.steering.release(Outcome::Run);
    rig.steering.free_steps();
    let text = rest(body).await;
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with(r#"data: {"error":"#) && last.contains(r#""code":"interrupted""#), "{text}");
    assert!(!text.contains("[DONE]"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_failures_without_a_stream_are_statuses() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let router = rig.router.clone();
    let call =
        tokio::spawn(async move { router.oneshot(post("/v1/chat/completions", &chat(""))).await.unwrap() });
    let steering = rig.steering.clone();
    blocking(move || steering.held_step()).await;
    rig.steering.release(Outcome::Panic);
    let response = call.await.unwrap();
    assert_eq!(response.status(), 500);
    rig.steering.free_steps();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_its_seat() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let (body, _) = begun(&rig, "").await;
    drop(body);
    rig.steering.free_steps();
    let mut stats = rig.engine.watch_stats();
    let gone = stats.wait_for(|stats| stats.totals.cancelled == 1 && stats.n_running == 0).await;
    assert!(gone.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_429_with_a_time_to_come_back() {
    let rig = Rig::with("a long story", |_, engine| engine.max_requests = 1);
    rig.ready().await;
    rig.steering.hold_steps();
    let (body, _) = begun(&rig, "").await;
    let answer = rig.post("/v1/chat/completions", &chat("")).await;
    assert_eq!(answer.error(), (429, "rate_limit_exceeded".into(), "-".into()));
    assert_eq!(answer.header("retry-after"), "2");
    rig.steering.free_steps();
    assert!(rest(body).await.ends_with("data: [DONE]\n\n"));
    assert_eq!(rig.post("/v1/chat/completions", &chat("")).await.status, OK);
}

#[tokio::test(start_paused = true)]
async fn a_silent_prefill_is_shown_in_comments() {
    let rig = Rig::saying(" ok").await;
    rig.steering.hold_steps();
    // Time is paused and jumps whenever everybody waits, so that silence costs the test nothing.
    let (mut body, first) = begun(&rig, "").await;
    assert!(first.contains(r#""role":"assistant""#));
    let comment = body.next().await.unwrap().unwrap();
    assert_eq!(comment, ": prefill 0/20\n\n");
    rig.steering.free_steps();
    let text = rest(body).await;
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}
