//! Draining and parking over HTTP, with the server staying up.

use std::thread;

use serde_json::{Value, json};

use crate::harness::answer::{chat, endless_chat};
use crate::harness::{Connection, Response, SMOLLM2, Samovar, Setup, eventually};

/// `POST path` on a thread of its own, for calls that last as long as a drain.
fn post_in_background(server: &Samovar, path: &'static str, body: Value) -> thread::JoinHandle<Response> {
    let address = server.address;
    thread::spawn(move || {
        let mut connection = Connection::open(address);
        connection.send("POST", path, &[], Some(&body.to_string()));
        connection.receive()
    })
}

#[test]
fn drain_prevents_new_requests() {
    let server = Samovar::ready();
    server.hold("writing");
    let mut running = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 200));
    running.wait_for_text();
    server.wait_until_held("writing");
    let drain = post_in_background(&server, "/admin/drain", json!({}));
    server.wait_until_not_ready("shutting_down");

    for path in ["/v1/chat/completions", "/v1/completions"] {
        let mut body = chat("Hello", 4);
        body["prompt"] = json!("Hello");
        if path == "/v1/completions" {
            body.as_object_mut().unwrap().remove("messages");
        } else {
            body.as_object_mut().unwrap().remove("prompt");
        }
        let refused = server.post(path, &body);
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
        assert!(refused.json()["error"]["message"].is_string(), "{}", refused.body);
        let refused = server.try_stream(path, &body).err().expect("no stream while draining");
        assert_eq!(refused.status, 503, "{}", refused.body);
    }

    server.release("writing");
    running.finish().assert_complete();
    let report = drain.join().unwrap();
    assert_eq!(report.status, 200, "{}", report.body);
}

#[test]
fn a_parked_server_refuses_until_it_is_resumed() {
    let server = Samovar::ready();
    let report = server.post("/admin/drain", &json!({}));
    assert_eq!(report.status, 200, "{}", report.body);
    assert_eq!(server.get("/health/ready").json()["reason"], "parked");
    assert_eq!(server.get("/admin/status").json()["state"], "parked");
    let refused = server.post("/v1/chat/completions", &chat("Hello", 4));
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());

    let resumed = server.post("/admin/resume", &json!({}));
    assert_eq!(resumed.status, 200, "{}", resumed.body);
    server.wait_until_ready();
    assert_eq!(server.post("/v1/chat/completions", &chat("Hello", 4)).status, 200);
}

#[test]
fn resuming_while_draining_admits_again_and_interrupts_nothing() {
    let server = Samovar::ready();
    server.hold("writing");
    let mut running = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 200));
    running.wait_for_text();
    server.wait_until_held("writing");
    let drain = post_in_background(&server, "/admin/drain", json!({}));
    server.wait_until_not_ready("shutting_down");
    assert_eq!(server.post("/admin/resume", &json!({})).status, 200);
    server.release("writing");
    running.finish().assert_complete();
    let cancelled = drain.join().unwrap();
    assert_ne!(cancelled.status, 200, "a cancelled drain has drained nothing: {}", cancelled.body);
    server.wait_until_ready();
}

#[test]
fn resuming_what_is_not_drained_is_a_conflict() {
    let server = Samovar::ready();
    let refused = server.post("/admin/resume", &json!({}));
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.json()["error"]["message"].is_string());
}

#[test]
fn requests_that_wait_are_answered_503_by_a_drain() {
    let server = Setup::new(SMOLLM2).with("--max-batch", "1").ready();
    server.hold("writing");
    let mut running = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 100));
    running.wait_for_text();
    server.wait_until_held("writing");
    let waiting = post_in_background(&server, "/v1/chat/completions", chat("Hello", 4));
    eventually("the second request waits", || {
        (server.get("/admin/status").json()["waiting"] == 1).then_some(())
    });
    let drain = post_in_background(&server, "/admin/drain", json!({}));
    // It is told at once, not when the running answer ends.
    let refused = waiting.join().unwrap();
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);

    server.release("writing");
    running.finish().assert_complete();
    assert_eq!(drain.join().unwrap().status, 200);
}

#[test]
fn a_client_that_goes_away_frees_its_seat() {
    let server = Setup::new(SMOLLM2).with("--max-requests", "1").ready();
    let mut stream = server.stream("/v1/chat/completions", &endless_chat("Tell me a long story.", 6000));
    stream.wait_for_text();
    let busy = server.post("/v1/chat/completions", &chat("Hello", 4));
    assert_eq!(busy.status, 429, "{}", busy.body);
    assert!(busy.header("retry-after").is_some(), "{:?}", busy.headers);

    drop(stream);
    eventually("the seat is free", || {
        (server.post("/v1/chat/completions", &chat("Hello", 4)).status == 200).then_some(())
    });
    eventually("nothing runs", || (server.get("/admin/status").json()["running"] == 0).then_some(()));
}

#[test]
fn metrics_count_drains() {
    let server = Samovar::ready();
    let drains = |text: &str| {
        let line = text.lines().find(|l| l.starts_with("samovar_drains_total")).expect("a drain counter");
        line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a number")
    };
    assert_eq!(drains(&server.get("/metrics").body), 0.0);
    assert_eq!(server.post("/admin/drain", &json!({})).status, 200);
    assert_eq!(drains(&server.get("/metrics").body), 1.0);
}
