//! What operators look at: every promised series is on `/metrics` and moves, and every request leaves a record.

use serde_json::{Value, json};

use crate::harness::answer::{chat, endless_chat};
use crate::harness::{SMOLLM2, Samovar, Setup, eventually};

#[test]
fn the_log_line_of_a_request_names_its_trace_and_no_other_line_does() {
    let server = Samovar::ready();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let traced = [("traceparent", &*format!("00-{trace}-b7ad6b7169203331-01")), ("x-request-id", "traced-1")];
    assert_eq!(server.get_with("/v1/models", &traced).status, 200);
    assert_eq!(
        server.get_with("/v1/models", &[("traceparent", "00-xyz"), ("x-request-id", "other-1")]).status,
        200
    );
    let lines = eventually("both lines in the log", || {
        let logs = std::fs::read_dir(server.data().join("logs")).ok()?;
        let text: String =
            logs.flatten().filter_map(|log| std::fs::read_to_string(log.path()).ok()).collect();
        (text.contains("traced-1") && text.contains("other-1")).then_some(text)
    });
    let with_trace: Vec<&str> = lines.lines().filter(|line| line.contains(trace)).collect();
    assert!(with_trace.len() == 1 && with_trace[0].contains("traced-1"), "{with_trace:?}");
    assert!(!lines.contains("xyz"));
}

#[test]
fn metrics_show_what_requests_did_and_scraping_alone_keeps_them_fresh() {
    let server = Samovar::ready();
    let total = server.metric("samovar_pool_blocks{state=\"free\"}");
    assert!(total > 0.0);
    let body = chat(&"Tell me about tea. ".repeat(20), 12);
    let mut n_generated = 0.0;
    let mut n_cached = 0.0;
    for _ in 0..2 {
        let usage = server.post("/v1/chat/completions", &body).json()["usage"].clone();
        n_generated += usage["completion_tokens"].as_f64().unwrap();
        n_cached += usage["prompt_tokens_details"]["cached_tokens"].as_f64().unwrap();
    }
    assert!(n_cached > 0.0);
    for (series, wanted) in [
        ("samovar_requests_total", 2.0),
        ("samovar_generated_tokens_total", n_generated),
        ("samovar_prefix_hit_tokens_total", n_cached),
        ("samovar_time_to_first_token_seconds_count", 2.0),
        ("samovar_time_to_first_token_seconds_bucket{le=\"+Inf\"}", 2.0),
        ("samovar_inter_token_seconds_count", n_generated - 2.0),
        ("samovar_queue_seconds_count", 2.0),
        ("samovar_requests_running", 0.0),
        ("samovar_requests_waiting", 0.0),
        ("samovar_preemptions_total", 0.0),
        ("samovar_requests_cancelled_total", 0.0),
        ("samovar_worker_failures_total", 0.0),
        ("samovar_pool_blocks{state=\"held\"}", 0.0),
        ("samovar_pool_utilization_ratio", 0.0),
        ("samovar_state{state=\"ready\"}", 1.0),
        ("samovar_ready", 1.0),
    ] {
        assert_eq!(server.metric(series), wanted, "{series}");
    }
    // The packed weights are part of it.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    assert!(server.metric("samovar_allocated_bytes") > 50e6);
    let n_steps = server.metric("samovar_steps_total");
    for histogram in ["samovar_step_seconds", "samovar_step_tokens", "samovar_step_rows"] {
        assert_eq!(server.metric(&format!("{histogram}_count")), n_steps, "{histogram}");
    }
    assert_eq!(server.metric("samovar_step_tokens_sum"), server.metric("samovar_step_tokens_total"));
    assert_eq!(server.metric("samovar_step_rows_sum"), server.metric("samovar_step_rows_total"));
    // What was computed beside the first token of each answer is one token a step.
    let n_prefilled = server.metric("samovar_prefill_tokens_total");
    assert_eq!(server.metric("samovar_step_tokens_total"), n_prefilled + n_generated - 2.0);
    let blocks = |state: &str| server.metric(&format!("samovar_pool_blocks{{state=\"{state}\"}}"));
    assert!(blocks("cached") > 0.0);
    assert_eq!(blocks("free") + blocks("cached") + blocks("held"), total);
    assert_eq!(server.metric("samovar_evictions_total"), 0.0);

    // Held in the middle of an answer, the gauges say so.
    server.hold("writing");
    let mut running = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 4000));
    running.wait_for_text();
    server.wait_until_held("writing");
    assert_eq!(server.metric("samovar_requests_running"), 1.0);
    assert!(blocks("held") > 0.0 && server.metric("samovar_pool_utilization_ratio") > 0.0);
    drop(running);
    server.release("writing");
    eventually("the cancelled one is counted", || {
        (server.metric("samovar_requests_cancelled_total") == 1.0).then_some(())
    });
}

#[test]
fn a_drain_is_counted_with_its_length_and_with_what_it_ended() {
    let server = Samovar::ready();
    let mut running = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 4000));
    running.wait_for_text();
    assert_eq!(server.post("/admin/drain", &json!({"timeout_s": 0})).status, 200);
    assert!(running.finish().error.is_some());
    for (series, wanted) in [
        ("samovar_drains_total", 1.0),
        ("samovar_drain_timeouts_total", 1.0),
        ("samovar_drained_sequences_total{outcome=\"interrupted\"}", 1.0),
        ("samovar_drained_sequences_total{outcome=\"finished\"}", 0.0),
        ("samovar_state{state=\"parked\"}", 1.0),
        ("samovar_ready", 0.0),
    ] {
        assert_eq!(server.metric(series), wanted, "{series}");
    }
    assert!(server.metric("samovar_drain_seconds_total") > 0.0);
    assert_eq!(server.metric("samovar_drain_seconds_total"), server.metric("samovar_last_drain_seconds"));
}

fn newest(server: &Samovar) -> Value {
    server.get("/admin/requests").json()["requests"][0].clone()
}

#[test]
fn every_request_leaves_a_record_of_what_became_of_it() {
    let server = Setup::new(SMOLLM2).ready();
    let body = chat("What is the capital of France?", 32);
    let headers = [("x-request-id", "first"), ("X-Session-ID", "geographer")];
    let usage = server.post_with("/v1/chat/completions", &headers, &body).json()["usage"].clone();
    let record = newest(&server);
    for (field, wanted) in [
        ("id", json!("first")),
        ("agent", json!("geographer")),
        ("outcome", json!("end_of_turn")),
        ("prompt_tokens", usage["prompt_tokens"].clone()),
        ("prefilled_tokens", usage["prompt_tokens"].clone()),
        ("reused_tokens", json!(0)),
        ("restored_tokens", json!(0)),
        ("spliced_tokens", json!(0)),
        ("first_difference", json!(0)),
        ("generated_tokens", usage["completion_tokens"].clone()),
        ("preempted", json!(0)),
    ] {
        assert_eq!(record[field], wanted, "{field} of {record}");
    }
    let seconds = |field: &str| record[field].as_f64().unwrap_or_else(|| panic!("{field} of {record}"));
    assert!(seconds("time_to_first_token_s") >= seconds("queued_s") && seconds("queued_s") >= 0.0);
    assert!(seconds("decoding_s") > 0.0 && seconds("ended_at") > 0.0);

    let mut outcomes = Vec::new();
    let mut stopping = body.clone();
    stopping["stop"] = json!(["Paris"]);
    server.post("/v1/chat/completions", &stopping);
    outcomes.push(newest(&server)["outcome"].clone());
    server.post("/v1/chat/completions", &chat("Tell me a story.", 3));
    outcomes.push(newest(&server)["outcome"].clone());
    let mut leaving = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 4000));
    leaving.wait_for_text();
    drop(leaving);
    eventually("the one that left has a record", || {
        (newest(&server)["outcome"] == "cancelled").then_some(())
    });
    let mut doomed = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 4000));
    doomed.wait_for_text();
    server.ask_for_fault("step.error");
    assert!(doomed.finish().error.is_some());
    outcomes.push(newest(&server)["outcome"].clone());
    assert_eq!(outcomes, ["stop_string", "length", "fault"]);
}

#[test]
fn what_has_changed_in_a_prompt_is_in_its_record_and_in_no_log() {
    let mut server = Setup::new(SMOLLM2).with("--log", "trace").ready();
    for place in ["Vladivostok", "Ouagadougou"] {
        let body = chat(&format!("What is the way from Paris to {place}, in one word?"), 4);
        assert_eq!(server.post("/v1/chat/completions", &body).status, 200);
    }
    let difference = newest(&server)["difference"].clone();
    assert_eq!((&difference["why"], &difference["place"]), (&json!("changed"), &json!("message")));
    assert_eq!((&difference["message"], &difference["role"]), (&json!(1), &json!("user")));
    assert!(difference["before"].as_str().is_some_and(|text| text.ends_with("Paris to")), "{difference}");
    assert!(difference["after"].as_str().is_some_and(|text| text.contains("Ouagadougou")), "{difference}");
    server.signal("TERM");
    assert_eq!(server.wait_for_exit(), 0);
    let logs = std::fs::read_dir(server.data().join("logs")).unwrap();
    let logs = logs.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let all: String = logs.chain([server.stderr()]).collect();
    assert!(all.contains("/v1/chat/completions"), "it logs requests: {all}");
    assert!(!all.contains("Ouagadougou") && !all.contains("Vladivostok"));
}

#[test]
fn the_last_two_hundred_requests_are_kept() {
    let server = Samovar::ready();
    let mut connection = server.connect();
    for i in 0..203 {
        let body = json!({"prompt": [1_000 + i], "max_tokens": 1});
        connection.send(
            "POST",
            "/v1/completions",
            &[("x-request-id", &i.to_string())],
            Some(&body.to_string()),
        );
        assert_eq!(connection.receive().status, 200);
    }
    let records = server.get("/admin/requests").json();
    let ids: Vec<&str> =
        records["requests"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[0], ids[199]), (200, "202", "3"));
}
