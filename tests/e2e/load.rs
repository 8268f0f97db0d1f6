//! Many clients at a time: nobody waits for the others' ends, nobody is left without an answer, and nothing leaks.

use std::thread;

use serde_json::json;

use crate::harness::answer::{chat, endless_chat};
use crate::harness::{Connection, SMOLLM2, Samovar, Setup, eventually};

/// Bytes of a block of SmolLM2: 32 tokens of 30 layers × 3 heads × 64 values, K and V, of 2 bytes.
const BLOCK_BYTES: usize = 32 * 30 * 3 * 64 * 2 * 2;

fn pool_of(n_blocks: usize) -> String {
    (n_blocks * BLOCK_BYTES).to_string()
}

#[test]
fn a_request_that_arrives_while_others_decode_gets_its_first_token_before_they_end() {
    let server = Samovar::ready();
    let mut others: Vec<_> = ["tea", "the sea", "a bee"]
        .iter()
        .map(|what| {
            server.stream("/v1/chat/completions", &endless_chat(&format!("Tell me about {what}."), 4000))
        })
        .collect();
    others.iter_mut().for_each(|other| _ = other.wait_for_text());
    let mut newcomer = server.stream("/v1/chat/completions", &endless_chat("Tell me about rain.", 4000));
    newcomer.wait_for_text();
    assert_eq!(
        server.get("/admin/status").json()["running"],
        4,
        "an answer of 4,000 tokens has ended already"
    );
    for other in &mut others {
        other.wait_for_text();
    }
}

#[test]
fn what_finds_no_room_in_time_is_told_so_and_the_others_are_untouched() {
    let server = Setup::new(SMOLLM2).with("--kv-pool", &pool_of(40)).with("--queue-timeout", "10").ready();
    let body = json!({"prompt": " a".repeat(1000), "max_tokens": 80, "temperature": 0, "ignore_eos": true});
    let whole = server.stream("/v1/completions", &body).finish();
    server.hold("writing");
    let mut running = server.stream("/v1/completions", &body);
    running.wait_for_text();
    server.wait_until_held("writing");
    let refused = server.post("/v1/completions", &json!({"prompt": " b".repeat(900), "max_tokens": 8}));
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "pool_exhausted", "{error}");
    assert!(
        error["message"].as_str().is_some_and(|m| m.contains("40")),
        "the pool's size is not said: {error}"
    );

    server.release("writing");
    let answer = running.finish();
    answer.assert_complete();
    assert_eq!(answer.text, whole.text);
    let after = server.post("/v1/completions", &json!({"prompt": " b".repeat(900), "max_tokens": 8}));
    assert_eq!(after.status, 200, "{}", after.body);
}

#[test]
fn when_the_pool_runs_out_a_stream_is_preempted_and_resumed_without_a_gap() {
    let bodies: Vec<_> = ["tea", "the sea", "a bee", "old maps"]
        .iter()
        .map(|what| endless_chat(&format!("Tell me a very long story about {what}."), 300))
        .collect();
    let roomy = Samovar::ready();
    let alone: Vec<_> =
        bodies.iter().map(|body| roomy.stream("/v1/chat/completions", body).finish()).collect();
    drop(roomy);

    // Each grows to 11 blocks.
    let server = Setup::new(SMOLLM2).with("--kv-pool", &pool_of(24)).ready();
    let streams: Vec<_> = bodies.iter().map(|body| server.stream("/v1/chat/completions", body)).collect();
    for (stream, alone) in streams.into_iter().zip(alone) {
        let answer = stream.finish();
        answer.assert_complete();
        assert_eq!(answer.text, alone.text);
    }
    assert!(server.metric("samovar_preemptions_total") > 0.0, "nobody was preempted");
    let records = server.get("/admin/requests").json();
    let n_preempted = |r: &serde_json::Value| r["preempted"].as_u64().expect("a count");
    let records = records["requests"].as_array().expect("records");
    assert!(records.iter().any(|record| n_preempted(record) > 0), "{records:?}");
    assert!(
        records.iter().any(|record| n_preempted(record) == 0),
        "the oldest is never preempted: {records:?}"
    );
}

#[test]
fn one_hundred_and_fifty_concurrent_requests_are_all_answered() {
    const N_SEATS: usize = 40;
    let setup = Setup::new(SMOLLM2).with("--max-requests", &N_SEATS.to_string());
    let server = setup.held_at("step").ready();
    let address = server.address;
    let asking: Vec<_> = (0..150)
        .map(|i| {
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                let body = chat(&format!("Say the number {i}."), 4).to_string();
                connection.send("POST", "/v1/chat/completions", &[], Some(&body));
                connection.receive()
            })
        })
        .collect();
    eventually("as many wait as there are seats", || {
        (server.get("/admin/status").json()["waiting"] == N_SEATS).then_some(())
    });
    eventually("the others are told", || {
        let route =
            "samovar_http_requests_total{method=\"POST\",route=\"/v1/chat/completions\",status=\"429\"}";
        (server.metric(route) == (150 - N_SEATS) as f64).then_some(())
    });
    server.release("step");
    let mut n_whole = 0;
    for asking in asking {
        let answer = asking.join().expect("an answer");
        match answer.status {
            200 => n_whole += 1,
            429 => assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers),
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert_eq!(n_whole, N_SEATS);
    let status = server.get("/admin/status").json();
    assert_eq!((&status["running"], &status["waiting"]), (&json!(0), &json!(0)));
    assert_eq!(status["pool"]["blocks"]["held"], 0, "{status}");
    assert_eq!(server.post("/v1/chat/completions", &chat("Hello", 4)).status, 200);
}
