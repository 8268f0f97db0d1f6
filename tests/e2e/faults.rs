//! What breaks ends with an error for those it meets, and with nothing at all for those that come after.

use std::thread;

use serde_json::json;

use crate::harness::answer::{chat, endless_chat};
use crate::harness::{Connection, SMOLLM2, Setup, eventually};

/// A fault in a step: the running one gets an error event, the waiting one a 503, readiness a 503 until the worker
/// is built anew, and the next request its answer.
fn check(fault: &str) {
    let server = Setup::new(SMOLLM2).with("--max-batch", "1").ready();
    let body = chat("What is the capital of France?", 24);
    let before = server.post("/v1/chat/completions", &body).json();
    server.hold("writing");
    let mut running = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 4000));
    running.wait_for_text();
    server.wait_until_held("writing");
    let address = server.address;
    let waiting = thread::spawn(move || {
        let mut connection = Connection::open(address);
        connection.send("POST", "/v1/chat/completions", &[], Some(&chat("Hello", 4).to_string()));
        connection.receive()
    });
    eventually("one waits", || (server.get("/admin/status").json()["waiting"] == 1).then_some(()));
    // The next worker is not built before it has been seen that there is none.
    server.hold("load");
    server.ask_for_fault(fault);
    server.release("writing");

    let running = running.finish();
    assert!(running.error.is_some() && running.finish_reason.is_none() && !running.broken, "{running:?}");
    let waiting = waiting.join().expect("an answer");
    assert_eq!((waiting.status, &waiting.json()["error"]["code"]), (503, &json!("engine_failed")));
    server.wait_until_held("load");
    let ready = server.get("/health/ready");
    assert_eq!(
        (ready.status, ready.json()["reason"].as_str()),
        (503, Some("model_loading")),
        "{}",
        ready.body
    );
    assert_eq!(server.get("/health/live").status, 200);
    assert_eq!(server.get("/health/startup").status, 200, "it was ready once");
    assert_eq!(server.post("/v1/chat/completions", &body).status, 503);
    assert_eq!(server.metric("samovar_worker_failures_total"), 1.0);

    server.release("load");
    server.wait_until_ready();
    let after = server.post("/v1/chat/completions", &body).json();
    assert_eq!(after["choices"], before["choices"]);
    assert_eq!(after["usage"]["completion_tokens"], before["usage"]["completion_tokens"]);
}

#[test]
fn after_a_panic_clients_get_an_error_readiness_503_and_the_worker_comes_back_by_itself() {
    check("step.panic");
}

#[test]
fn after_a_failed_step_clients_get_an_error_readiness_503_and_the_worker_comes_back_by_itself() {
    check("step.error");
}

#[test]
fn a_stderr_that_nobody_reads_holds_up_neither_answers_nor_the_exit() {
    let mut server = Setup::new(SMOLLM2).with_full_stderr().ready();
    let body = chat("What is the capital of France?", 8);
    let before = server.post("/v1/chat/completions", &body);
    assert_eq!(before.status, 200);
    // Each of these is an error in the log, from the engine's thread, and the panic from within a step.
    for fault in ["step.error", "step.panic"] {
        server.ask_for_fault(fault);
        assert!(server.post("/v1/chat/completions", &body).status >= 500, "{fault}");
        server.wait_until_ready();
        assert_eq!(server.post("/v1/chat/completions", &body).status, 200, "after {fault}");
    }
    server.signal("TERM");
    assert_eq!(server.wait_for_exit(), 0);
}
