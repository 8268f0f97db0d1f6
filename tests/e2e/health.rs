//! The health endpoints, in every state that a real server comes through.

use serde_json::json;

use crate::harness::answer::{chat, endless_chat};
use crate::harness::{SMOLLM2, Samovar, Setup, eventually};

/// Asserts that `/health/live` and its alias say 200, whatever the server is doing.
fn assert_alive(server: &Samovar, state: &str) {
    for path in ["/health/live", "/health"] {
        let live = server.get(path);
        assert_eq!((live.status, live.json()), (200, json!({"status": "alive"})), "{path} while {state}");
    }
}

#[test]
fn health_live_always_200() {
    let mut server = Setup::new(SMOLLM2).held_at("load").start();
    server.wait_until_held("load");
    assert_alive(&server, "loading");

    server.release("load");
    server.wait_until_ready();
    assert_alive(&server, "ready");

    server.hold("writing");
    let mut answer = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 400));
    answer.wait_for_text();
    server.wait_until_held("writing");
    assert_alive(&server, "a step is under way");

    let address = server.address;
    let parking = std::thread::spawn(move || {
        let mut connection = crate::harness::Connection::open(address);
        connection.send("POST", "/admin/drain", &[], Some("{}"));
        connection.receive()
    });
    server.wait_until_not_ready("shutting_down");
    assert_alive(&server, "draining");

    server.release("writing");
    answer.finish().assert_complete();
    assert_eq!(parking.join().unwrap().status, 200);
    server.wait_until_not_ready("parked");
    assert_alive(&server, "parked");
    assert!(server.is_running());
}

#[test]
fn health_startup_503_until_model_loaded() {
    let server = Setup::new(SMOLLM2).held_at("load").start();
    server.wait_until_held("load");
    let startup = server.get("/health/startup");
    assert_eq!(startup.status, 503);
    assert_eq!(startup.json()["status"], "starting");
    assert_eq!(startup.json()["reason"], "model_loading");
    let at_first = startup.json()["progress"].as_f64().expect("progress");
    let ready = server.get("/health/ready");
    assert_eq!((ready.status, &ready.json()["reason"]), (503, &json!("model_loading")));

    // A generation call is refused with a time to come back, not left waiting.
    let refused = server.post("/v1/chat/completions", &chat("Hello", 4));
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);

    // Progress is that of the weights: it stands still while loading is held, and moves once it is not.
    assert_eq!(server.get("/health/startup").json()["progress"].as_f64(), Some(at_first));
    server.release("load");
    let mut seen = vec![at_first];
    eventually("started", || {
        let startup = server.get("/health/startup");
        if startup.status == 200 {
            assert_eq!(startup.json(), json!({"status": "started"}));
            return Some(());
        }
        let progress = startup.json()["progress"].as_f64().expect("progress");
        if seen.last() != Some(&progress) {
            seen.push(progress);
        }
        None
    });
    assert!(seen.is_sorted(), "progress went back: {seen:?}");
    assert!(seen.len() > 1, "progress never moved: {seen:?}");
    assert!(seen.iter().all(|p| (0.0..=1.0).contains(p)), "{seen:?}");
    server.wait_until_ready();
}

#[test]
fn health_ready_503_when_pool_exhausted() {
    // 40 blocks of 32 tokens: SmolLM2 keeps 30 layers × 3 heads × 64 values × K and V × 2 bytes for each token.
    let block_bytes = 30 * 3 * 64 * 2 * 2 * 32;
    let server = Setup::new(SMOLLM2).with("--kv-pool", &(40 * block_bytes).to_string()).ready();
    let before = server.get("/health/ready").json();
    assert_eq!((&before["status"], &before["pool_utilization"]), (&json!("ready"), &json!(0.0)));

    // One token a word. 1190 of them lie in 38 of the blocks once the first token of the answer is there, and what
    // the answer adds stays within the pool.
    let body = json!({"prompt": " a".repeat(1190), "max_tokens": 80, "temperature": 0, "ignore_eos": true});
    server.hold("writing");
    let mut answer = server.stream("/v1/completions", &body);
    answer.wait_for_text();
    server.wait_until_held("writing");
    let ready = server.wait_until_not_ready("pool_near_exhaustion");
    let utilization = ready["pool_utilization"].as_f64().expect("pool_utilization");
    assert!(utilization > 90.0 && utilization <= 100.0, "{ready}");
    assert_eq!(server.get("/health/startup").status, 200);
    assert_eq!(server.get("/health/live").status, 200);

    server.release("writing");
    let answer = answer.finish();
    answer.assert_complete();
    assert_eq!(answer.finish_reason.as_deref(), Some("length"));
    server.wait_until_ready();
}

#[test]
fn health_ready_503_when_shutting_down() {
    let mut server = Samovar::ready();
    server.hold("writing");
    let mut answer = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 200));
    answer.wait_for_text();
    server.wait_until_held("writing");
    server.signal("TERM");
    let ready = server.wait_until_not_ready("shutting_down");
    assert_eq!(ready["status"], "not_ready");
    assert_eq!(ready["active"], 1, "{ready}");
    let deadline = ready["deadline_s"].as_f64().expect("deadline_s");
    assert!(deadline > 0.0 && deadline <= 600.0, "{ready}");
    assert_eq!(server.get("/health/startup").status, 200);

    server.release("writing");
    answer.finish().assert_complete();
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn a_step_that_panics_ends_its_streams_with_an_error_and_the_worker_comes_back() {
    let server = Samovar::ready();
    let mut answer = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 400));
    answer.wait_for_text();
    server.ask_for_fault("step.panic");
    let answer = answer.finish();
    let error = answer.error.expect("an error event");
    assert!(answer.finish_reason.is_none(), "{error}");
    assert_eq!(server.get("/health/live").status, 200);

    server.wait_until_ready();
    let again = server.post("/v1/chat/completions", &chat("Say hello.", 8));
    assert_eq!(again.status, 200, "{}", again.body);
}
