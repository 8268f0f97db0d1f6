//! The lifecycle over HTTP: health, drain, resume, stop, status, events, metrics.

use std::time::Duration;

use engine::testing::{Outcome, ScriptedLoader, ScriptedModel};
use engine::{Backend, GpuRefusal, GpuRefusalKind, ServedBy};
use futures_util::StreamExt;
use serde_json::json;

use super::*;

fn held_load() -> (Steering, Rig) {
    let steering = Steering::free();
    steering.hold_loads();
    let loader = ScriptedLoader::new(ScriptedModel::default(), steering.clone());
    let rig = Rig::around(steering.clone(), Arc::new(loader), |_, _| {});
    (steering, rig)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_loading_the_server_is_alive_and_says_when_to_come_back() {
    let (steering, rig) = held_load();
    let waiting = steering.clone();
    blocking(move || waiting.held_load()).await;
    rig.engine.watch_stats().wait_for(|stats| stats.load.bytes_done > 0).await.unwrap();
    assert_eq!(rig.get("/health").await.text, r#"{"status":"alive"}"#);
    let startup = rig.get("/health/startup").await;
    assert_eq!(startup.text, r#"{"status":"starting","reason":"model_loading","progress":0.5}"#);
    assert_eq!(startup.status, 503);
    let ready = rig.get("/health/ready").await;
    assert_eq!(
        (ready.status, ready.text.as_str()),
        (503, r#"{"status":"not_ready","reason":"model_loading"}"#)
    );
    let answer = rig.post("/v1/chat/completions", &chat("")).await;
    assert_eq!(answer.error(), (503, "model_loading".into(), "-".into()));
    assert_eq!(answer.header("retry-after"), "2");
    steering.release_load(Ok(()));
    rig.ready().await;
    assert_eq!(rig.get("/health/startup").await.text, r#"{"status":"started"}"#);
    assert_eq!(rig.get("/health/ready").await.text, r#"{"status":"ready","pool_utilization":0.0}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_shows_its_kind_and_cause_everywhere_and_can_be_tried_again() {
    let (steering, rig) = held_load();
    steering.release_load(Err("cup.gguf: truncated".into()));
    rig.reaches("failed").await;
    let ready = rig.get("/health/ready").await.json();
    assert_eq!(ready["reason"], "engine_failed");
    assert!(ready["cause"].as_str().unwrap().contains("cup.gguf: truncated"));
    let events = Request::get("/admin/events").header("host", "localhost:8642").body(Body::empty()).unwrap();
    let event = event(&mut rig.call(events).await.into_body().into_data_stream()).await.unwrap();
    let startup = rig.get("/health/startup").await.json();
    let status = rig.get("/admin/status").await.json();
    for told in [&ready, &startup, &status, &event] {
        assert_eq!((&told["failure"], &told["cause"]), (&"damaged".into(), &ready["cause"]), "{told}");
    }
    assert_eq!(rig.get("/health").await.status, OK);
    let answer = rig.post("/v1/chat/completions", &chat("")).await;
    assert_eq!(answer.error(), (503, "engine_failed".into(), "-".into()));
    assert_eq!(rig.post("/admin/drain", "").await.error().0, 409);
    steering.release_load(Ok(()));
    assert_eq!(rig.post("/admin/load", "").await.status, 202);
    rig.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_the_model_is_told_and_why_the_gpu_does_not() {
    let told = async |served_by: ServedBy| {
        let steering = Steering::free();
        let model = ScriptedModel { served_by, ..ScriptedModel::default() };
        let loader = Arc::new(ScriptedLoader::new(model, steering.clone()));
        let rig = Rig::around(steering, loader, |_, _| {});
        rig.ready().await;
        let status = rig.get("/admin/status").await.json()["model"].clone();
        let events =
            Request::get("/admin/events").header("host", "localhost:8642").body(Body::empty()).unwrap();
        let event =
            event(&mut rig.call(events).await.into_body().into_data_stream()).await.unwrap()["model"].clone();
        for name in ["backend", "gpu_refusal"] {
            assert_eq!(status[name], event[name]);
        }
        (status["backend"].clone(), status["gpu_refusal"].clone())
    };
    assert_eq!(told(ServedBy::CPU).await, (json!("cpu"), json!(null)));
    let metal = ServedBy { backend: Backend::Metal, gpu_refusal: None };
    assert_eq!(told(metal).await, (json!("metal"), json!(null)));
    for kind in GpuRefusalKind::ALL {
        let refusal = GpuRefusal::new(kind, "layer 3: off by 0.5");
        let told = told(ServedBy { backend: Backend::Cpu, gpu_refusal: Some(refusal) }).await;
        assert_eq!(told, (json!("cpu"), json!({"kind": kind.name(), "text": "layer 3: off by 0.5"})));
    }
}

#[tokio::test]
async fn a_drain_lets_streams_end_refuses_new_requests_and_parks() {
    let rig = Rig::saying(" ok").await;
    rig.steering.hold_steps();
    let router = rig.router.clone();
    let running = tokio::spawn(async move {
        let request = post("/v1/chat/completions", &chat(r#","stream":true"#));
        let response = router.oneshot(request).await.unwrap();
        String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
    });
    let steering = rig.steering.clone();
    blocking(move || steering.held_step()).await;

    let router = rig.router.clone();
    let drain = tokio::spawn(async move {
        router.oneshot(post("/admin/drain?wait=false", r#"{"timeout_s":600}"#)).await.unwrap().status()
    });
    settle().await;
    rig.steering.release(Outcome::Run);
    assert_eq!(drain.await.unwrap(), 202);
    rig.reaches("draining").await;
    let ready = rig.get("/health/ready").await.json();
    assert_eq!((&ready["reason"], &ready["active"]), (&"shutting_down".into(), &1.into()));
    let left = ready["deadline_s"].as_f64().unwrap();
    assert!((1.0..=600.0).contains(&left), "{left}");
    let refused = rig.post("/v1/chat/completions", &chat("")).await;
    assert_eq!(refused.error(), (503, "shutting_down".into(), "-".into()));
    assert!((1..=600).contains(&refused.header("retry-after").parse::<u32>().unwrap()));

    rig.steering.free_steps();
    assert!(running.await.unwrap().ends_with("data: [DONE]\n\n"));
    rig.reaches("parked").await;
    assert_eq!(rig.get("/health/ready").await.json()["reason"], "parked");
    assert_eq!(rig.post("/v1/chat/completions", &chat("")).await.error().1, "parked");

    assert_eq!(rig.post("/admin/resume", "").await.text, r#"{"status":"ready"}"#);
    assert_eq!(rig.post("/v1/chat/completions", &chat("")).await.status, OK);
    assert_eq!(rig.post("/admin/resume", "").await.error(), (409, "illegal_transition".into(), "-".into()));
}

#[tokio::test]
async fn a_drain_that_is_waited_for_answers_with_its_report() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let router = rig.router.clone();
    let running = tokio::spawn(async move {
        router.oneshot(post("/v1/chat/completions", &chat(""))).await.unwrap().status()
    });
    let steering = rig.steering.clone();
    blocking(move || steering.held_step()).await;
    let router = rig.router.clone();
    let drain = tokio::spawn(async move {
        let response = router.oneshot(post("/admin/drain", r#"{"timeout_s":0}"#)).await.unwrap();
        to_bytes(response.into_body(), usize::MAX).await.unwrap()
    });
    settle().await;
    rig.steering.free_steps();
    let report: Value = serde_json::from_slice(&drain.await.unwrap()).unwrap();
    assert_eq!(report["status"], "drained");
    assert_eq!((&report["report"]["interrupted"], &report["report"]["drained"]), (&1.into(), &0.into()));
    assert_eq!(running.await.unwrap(), 503, "an interrupted answer that was not streamed");
    let metrics = rig.get("/metrics").await.text;
    for line in [
        "samovar_drains_total 1",
        "samovar_drain_timeouts_total 1",
        "samovar_drained_sequences_total{outcome=\"interrupted\"} 1",
    ] {
        assert!(metrics.lines().any(|got| got == line), "{line}");
    }
}

#[tokio::test]
async fn admin_calls_refuse_what_they_do_not_know() {
    let rig = Rig::saying("a").await;
    for (path, body, param) in [
        ("/admin/drain", r#"{"timeout_s":-1}"#, "timeout_s"),
        ("/admin/drain", r#"{"timeout_s":1e9}"#, "timeout_s"),
        ("/admin/drain", r#"{"timeout":1}"#, "timeout"),
        ("/admin/drain?wait=maybe", "", "wait"),
        ("/admin/stop", r#"{"now":true}"#, "now"),
        ("/admin/resume", r#"{"x":1}"#, "x"),
    ] {
        let (status, _, got) = rig.post(path, body).await.error();
        assert_eq!((status, got.as_str()), (400, param), "{path} {body}");
    }
    assert_eq!(rig.engine.state(), State::Ready);
}

#[tokio::test]
async fn status_shows_state_model_pool_queue_and_totals() {
    let rig = Rig::saying(" ok").await;
    rig.post("/v1/chat/completions", &chat("")).await;
    rig.engine
        .watch_stats()
        .wait_for(|stats| stats.totals.requests == 1 && stats.n_running == 0)
        .await
        .unwrap();
    let status = rig.get("/admin/status").await.json();
    for (field, want) in [
        ("/state", "\"ready\""),
        ("/ready", "true"),
        ("/load/progress", "1.0"),
        ("/model/id", "\"scripted\""),
        ("/model/context_length", "2048"),
        ("/pool/blocks/total", "256"),
        ("/running", "0"),
        ("/waiting", "0"),
        ("/drain", "null"),
        ("/address", "\"http://127.0.0.1:8642\""),
        ("/totals/requests", "1"),
        ("/active", "[]"),
        ("/last/prompt_tokens", "20"),
    ] {
        assert_eq!(status.pointer(field).map(Value::to_string).as_deref(), Some(want), "{field}");
    }
    assert!(status["version"].is_string() && status["uptime_s"].is_number());
}

#[tokio::test]
async fn requests_show_what_became_of_them_and_no_text() {
    let rig = Rig::saying(" ok").await;
    rig.post("/v1/completions", r#"{"prompt":"my secret plan","max_tokens":2,"session_id":"a-1"}"#).await;
    let answer = rig.get("/admin/requests").await;
    let record = &answer.json()["requests"][0];
    assert_eq!(
        (&record["agent"], &record["outcome"], &record["prompt_tokens"], &record["generated_tokens"]),
        (&"a-1".into(), &"length".into(), &14.into(), &2.into())
    );
    assert!(!answer.text.contains("secret"));
}

#[tokio::test]
async fn a_request_can_be_asked_for_by_its_id() {
    let rig = Rig::saying(" ok").await;
    let answer = rig.post("/v1/chat/completions", &chat("")).await;
    let id = answer.header("x-request-id");
    let record = rig.get(&format!("/admin/requests/{id}")).await.json();
    assert_eq!((&record["id"], &record["outcome"]), (&id.into(), &"end_of_turn".into()));
    let unknown = rig.get("/admin/requests/nobody").await;
    assert_eq!(unknown.error(), (404, "request_not_found".into(), "-".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_shown_with_what_they_do() {
    let rig = Rig::saying("a long story").await;
    rig.steering.hold_steps();
    let router = rig.router.clone();
    let call = tokio::spawn(async move {
        let request = post("/v1/chat/completions", &chat(r#","session_id":"tea""#));
        router.oneshot(request).await.unwrap().status()
    });
    let active = |phase: &'static str| {
        let mut stats = rig.engine.watch_stats();
        async move {
            let is_there = |stats: &engine::Stats| stats.active.iter().any(|a| a.phase.name() == phase);
            stats.wait_for(is_there).await.unwrap().active[0].clone()
        }
    };
    let reading = active("reading").await;
    assert_eq!((reading.agent.as_deref(), reading.n_prompt, reading.n_done), (Some("tea"), 20, 0));
    rig.steering.release(Outcome::Run);
    active("writing").await;
    let shown = rig.get("/admin/status").await.json()["active"][0].clone();
    assert_eq!((&shown["phase"], &shown["done_tokens"]), (&"writing".into(), &20.into()), "{shown}");
    rig.steering.free_steps();
    assert_eq!(call.await.unwrap(), 200);
}

/// The next event of a stream, comments skipped.
async fn event(body: &mut axum::body::BodyDataStream) -> Option<Value> {
    loop {
        let chunk = body.next().await?.unwrap();
        let text = std::str::from_utf8(&chunk).unwrap();
        if let Some(data) = text.strip_prefix("event: status\ndata: ") {
            return Some(serde_json::from_str(data).unwrap());
        }
        assert!(text.starts_with(':'), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_begin_with_a_snapshot_follow_changes_and_end_with_the_engine() {
    let (steering, rig) = held_load();
    let request = Request::get("/admin/events").header("host", "localhost:8642").body(Body::empty()).unwrap();
    let response = rig.call(request).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let first = event(&mut body).await.unwrap();
    assert!(["unloaded", "loading"].contains(&first["state"].as_str().unwrap()), "{first}");

    steering.release_load(Ok(()));
    let mut states = Vec::new();
    loop {
        let Some(event) = event(&mut body).await else { break };
        let state = event["state"].as_str().unwrap().to_owned();
        if state == "ready" && !states.contains(&state) {
            rig.post("/admin/stop", "").await;
        }
        states.push(state);
    }
    assert!(states.contains(&"ready".to_owned()), "{states:?}");
    assert_eq!(states.last().map(String::as_str), Some("stopped"), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn events_that_tell_nothing_new_are_not_sent_but_a_comment_is() {
    let rig = Rig::saying("a").await;
    let request = Request::get("/admin/events").header("host", "localhost:8642").body(Body::empty()).unwrap();
    let mut body = rig.call(request).await.into_body().into_data_stream();
    event(&mut body).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(60), body.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(next, ": alive\n\n");
}

#[tokio::test]
async fn metrics_are_fresh_and_count_by_route_template_and_status() {
    let rig = Rig::saying(" ok").await;
    rig.post("/v1/chat/completions", &chat("")).await;
    rig.post("/v1/chat/completions", "{").await;
    rig.get("/v1/models/a").await;
    rig.get("/v1/models/b").await;
    rig.get("/random/1").await;
    rig.get("/random/2").await;
    let answer = rig.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        r#"samovar_state{state="ready"} 1"#,
        r#"samovar_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 1"#,
        r#"samovar_http_requests_total{method="POST",route="/v1/chat/completions",status="400"} 1"#,
        r#"samovar_http_requests_total{method="GET",route="/v1/models/{*id}",status="404"} 2"#,
        r#"samovar_http_requests_total{method="GET",route="unmatched",status="404"} 2"#,
        "samovar_generated_tokens_total 4",
        "samovar_prefill_tokens_total 20",
        "samovar_time_to_first_token_seconds_count 1",
    ] {
        assert!(answer.text.lines().any(|got| got == line), "{line}\n{}", answer.text);
    }
    for name in [
        "samovar_inter_token_seconds_bucket",
        "samovar_queue_seconds_sum",
        "samovar_requests_waiting",
        "samovar_pool_blocks{state=\"held\"}",
        "samovar_prefix_hit_tokens_total",
        "samovar_evictions_total",
        "samovar_drains_total",
        "samovar_drain_seconds_total",
        "samovar_drain_timeouts_total",
    ] {
        assert!(answer.text.lines().any(|line| line.starts_with(name)), "{name}");
    }
}

#[tokio::test]
async fn what_is_allocated_is_shown_where_the_system_says_it() {
    for (says, shown) in [
        ((|| Some(12_345)) as fn() -> Option<u64>, Some("12345")),
        (|| Some(0), Some("0")),
        (|| Some(u64::MAX), Some("18446744073709551615")),
        (|| None, None),
    ] {
        let rig = Rig::with(" ok", |server, _| server.allocated_bytes = says);
        let page = rig.get("/metrics").await.text;
        let values: Vec<_> =
            page.lines().filter_map(|line| line.strip_prefix("samovar_allocated_bytes ")).collect();
        assert_eq!(values, Vec::from_iter(shown));
        assert_eq!(page.contains("samovar_allocated_bytes"), shown.is_some());
    }
}
