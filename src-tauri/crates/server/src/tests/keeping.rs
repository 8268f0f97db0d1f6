//! Answers that are kept for a client that comes back.

use futures_util::StreamExt;

use super::*;

/// A streamed chat under the id `r-1`.
fn call(keep: &str, more: &str) -> Request<Body> {
    let mut request = post("/v1/chat/completions", &chat(more));
    request.headers_mut().insert("x-request-id", "r-1".parse().unwrap());
    request.headers_mut().insert("x-samovar-keep", keep.parse().unwrap());
    request
}

const STREAM: &str = r#","stream":true"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_answer_goes_on_without_its_client_and_is_there_when_it_comes_back() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let response = rig.call(call("true", STREAM)).await;
    let mut body = response.into_body().into_data_stream();
    assert!(body.next().await.unwrap().unwrap().starts_with(b"data: "));
    drop(body);
    rig.steering.free_steps();

    let answer = rig.get("/admin/answers/r-1").await;
    assert_eq!((answer.status, answer.header("content-type")), (OK, "text/event-stream"));
    assert!(
        answer.text.contains(r#""role":"assistant""#) && answer.text.ends_with("data: [DONE]\n\n: ended\n\n")
    );
    let said: String = answer
        .text
        .split("\n\n")
        .filter_map(|frame| serde_json::from_str::<Value>(frame.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(said, "a long story");
    assert_eq!(rig.get("/admin/answers/r-1").await.text, answer.text, "it can be read again");
    assert_eq!(rig.engine.stats().totals.cancelled, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_answer_that_is_not_wanted_is_stopped_and_frees_its_seat() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let response = rig.call(call("true", STREAM)).await;
    let delete = Request::delete("/admin/answers/r-1").header("host", "localhost:8642");
    assert_eq!(rig.send(delete.body(Body::empty()).unwrap()).await.status, OK);
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("[DONE]"));
    rig.steering.free_steps();
    let mut stats = rig.engine.watch_stats();
    stats.wait_for(|stats| stats.totals.cancelled == 1 && stats.n_running == 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_connection_to_spare_gets_what_there_is_at_once_and_whether_that_is_all() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let response = rig.call(call("true", STREAM)).await;
    let mut body = response.into_body().into_data_stream();
    let first = body.next().await.unwrap().unwrap();
    let so_far = rig.get("/admin/answers/r-1?follow=false").await;
    assert_eq!((so_far.status, so_far.header("content-type")), (OK, "text/event-stream"));
    assert!(so_far.text.as_bytes().starts_with(&first) && !so_far.text.contains(": ended"));

    let delete = Request::delete("/admin/answers/r-1").header("host", "localhost:8642");
    assert_eq!(rig.send(delete.body(Body::empty()).unwrap()).await.status, OK);
    // The stream ends when the answer has.
    while body.next().await.is_some() {}
    let stopped = rig.get("/admin/answers/r-1?follow=false").await.text;
    assert!(!stopped.contains("[DONE]") && stopped.ends_with(": ended\n\n"), "{stopped}");
    assert_eq!(rig.get("/admin/answers/r-1?follow=true").await.text, stopped);
    for wrong in ["maybe", "", "0", "TRUE", "false&follow=true"] {
        let (status, _, param) = rig.get(&format!("/admin/answers/r-1?follow={wrong}")).await.error();
        assert_eq!((status, param.as_str()), (400, "follow"), "{wrong}");
    }
    rig.steering.free_steps();
}

#[tokio::test]
async fn what_goes_wrong_before_the_first_token_is_in_the_kept_stream() {
    let rig = Rig::saying("a").await;
    let long =
        format!(r#"{{"stream":true,"messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(9000));
    let mut request = post("/v1/chat/completions", &long);
    request.headers_mut().insert("x-request-id", "r-1".parse().unwrap());
    request.headers_mut().insert("x-samovar-keep", "true".parse().unwrap());
    let answer = rig.send(request).await;
    assert_eq!(answer.status, OK);
    assert!(answer.text.contains(r#""code":"context_length_exceeded""#), "{}", answer.text);
    let kept = rig.get("/admin/answers/r-1").await;
    assert_eq!(kept.text, format!("{}: ended\n\n", answer.text));
}

#[tokio::test]
async fn keeping_is_asked_for_in_one_way_and_needs_a_stream() {
    let rig = Rig::saying("a").await;
    for (keep, more) in [("yes", STREAM), ("true", "")] {
        let (status, _, param) = rig.send(call(keep, more)).await.error();
        assert_eq!((status, param.as_str()), (400, "X-Samovar-Keep"), "{keep} {more}");
    }
    assert_eq!(rig.send(call("false", STREAM)).await.status, OK);
    let (status, code, _) = rig.get("/admin/answers/r-1").await.error();
    assert_eq!((status, code.as_str()), (404, "request_not_found"));
    assert_eq!(rig.send(call("true", STREAM)).await.status, OK);
    assert_eq!(rig.send(call("true", STREAM)).await.error().2, "X-Request-ID");
}
