//! Named agents, as a client and a user of the command line see them.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::answer::chat;
use crate::harness::server::samovar;
use crate::harness::{GEMMA3, SMOLLM2, Samovar, Setup, eventually};

fn run(server: &Samovar, arguments: &[&str]) -> Output {
    let port = server.address.port().to_string();
    samovar(server.data()).args(["agents"]).args(arguments).args(["--port", &port]).output().unwrap()
}

/// What a command says; it must not fail.
fn says(server: &Samovar, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// A turn of some hundred tokens.
fn turn(server: &Samovar, agent: &str) -> Value {
    let mut body = chat(&format!("Tell me about tea. {}", "It is hot and it is green. ".repeat(40)), 8);
    body["session_id"] = json!(agent);
    let answer = server.post("/v1/chat/completions", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn show(server: &Samovar, agent: &str) -> Value {
    let shown = server.get(&format!("/v1/agents/{agent}"));
    assert_eq!(shown.status, 200, "{}", shown.body);
    shown.json()
}

fn wait_until_saved(server: &Samovar, agent: &str) {
    eventually("all of the agent is on disk", || {
        let shown = show(server, agent);
        (shown["saved_tokens"] == shown["tokens"]).then_some(())
    });
}

#[test]
fn agents_are_listed_shown_pinned_evicted_and_removed_from_the_command_line() {
    let server = Samovar::ready();
    assert_eq!(says(&server, &["list"]), "");
    turn(&server, "tea");
    turn(&server, "coffee");
    let list = says(&server, &["list"]);
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.len(), 2, "{list}");
    assert!(names.contains(&"tea") && names.contains(&"coffee"), "{list}");
    assert!(says(&server, &["show", "tea"]).contains("saved_tokens"));

    assert!(says(&server, &["pin", "tea"]).contains("pinned"));
    assert_eq!(show(&server, "tea")["pinned"], true);
    assert!(!says(&server, &["unpin", "tea"]).contains("pinned"));

    assert!(says(&server, &["evict", "tea"]).contains("stored"));
    assert_eq!(show(&server, "tea")["resident_tokens"], 0);
    let again = turn(&server, "tea");
    assert!(again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 200, "{again}");

    assert_eq!(says(&server, &["rm", "tea"]), "removed tea\n");
    assert_eq!(server.get("/v1/agents/tea").status, 404);
    let missing = run(&server, &["rm", "tea"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no agent"), "{missing:?}");
    let odd = run(&server, &["show", "../tea"]);
    assert_eq!(odd.status.code(), Some(1), "{odd:?}");
    assert_eq!(run(&server, &["rm"]).status.code(), Some(2));

    turn(&server, "milk");
    assert_eq!(says(&server, &["rm", "--all"]).lines().count(), 2);
    assert_eq!(says(&server, &["list"]), "");
}

#[test]
fn agents_and_their_pins_outlive_the_process() {
    let mut server = Samovar::ready();
    turn(&server, "kept");
    turn(&server, "dropped");
    assert_eq!(server.post("/v1/agents/kept/pin", &json!({})).status, 200);
    wait_until_saved(&server, "kept");
    says(&server, &["rm", "dropped"]);
    server.signal("TERM");
    assert_eq!(server.wait_for_exit(), 0);

    let server = server.again().ready();
    let kept = show(&server, "kept");
    assert_eq!((&kept["pinned"], &kept["tier"]), (&json!(true), &json!("stored")), "{kept}");
    assert_eq!(kept["saved_tokens"], kept["tokens"]);
    assert_eq!(server.get("/v1/agents/dropped").status, 404);
}

#[test]
fn clients_without_a_name_become_no_agents() {
    let server = Setup::new(SMOLLM2).ready();
    for prompt in ["Tell me about tea.", "Tell me about milk."] {
        assert_eq!(server.post("/v1/chat/completions", &chat(prompt, 4)).status, 200);
    }
    assert_eq!(server.get("/v1/agents").json()["data"], json!([]));
}

#[test]
fn an_agent_that_two_models_know_is_one_agent_with_what_it_has_of_each() {
    let mut server = Setup::new(SMOLLM2).ready();
    turn(&server, "tea");
    wait_until_saved(&server, "tea");
    let n_first = show(&server, "tea")["tokens"].clone();
    server.signal("TERM");
    assert_eq!(server.wait_for_exit(), 0);

    let path = crate::harness::model(GEMMA3).display().to_string();
    let server = server.again().with("--model", &path).ready();
    let before = show(&server, "tea");
    assert_eq!((&before["tokens"], &before["saved_tokens"]), (&n_first, &n_first), "{before}");
    assert_eq!(
        (&before["tier"], &before["models"][0]["loaded"]),
        (&json!("stored"), &json!(false)),
        "{before}"
    );
    // It has no chat template.
    let prompt = "It is hot and it is green. ".repeat(40);
    let body = json!({"prompt": prompt, "max_tokens": 8, "temperature": 0, "session_id": "tea"});
    assert_eq!(server.post("/v1/completions", &body).status, 200);
    wait_until_saved(&server, "tea");
    let both = show(&server, "tea");
    let of = |n: usize, key: &str| both["models"][n][key].clone();
    assert_eq!((of(0, "loaded"), of(1, "loaded")), (json!(true), json!(false)), "{both}");
    assert_eq!(of(1, "tokens"), n_first);
    let sum = of(0, "tokens").as_u64().unwrap() + n_first.as_u64().unwrap();
    assert_eq!(both["tokens"], sum, "{both}");
    let list = says(&server, &["list"]);
    assert!(list.lines().count() == 1 && list.contains("models="), "{list}");

    let first = of(1, "fingerprint").as_str().unwrap().to_owned();
    assert!(says(&server, &["pin", "tea", "--model", &first]).contains("pinned"));
    assert_eq!(show(&server, "tea")["pinned"], false, "the other model's is not");
    assert_eq!(says(&server, &["rm", "tea", "--model", &first]), "removed tea\n");
    let left = show(&server, "tea");
    assert_eq!((&left["tokens"], left["models"].as_array().unwrap().len()), (&of(0, "tokens"), 1), "{left}");
    assert_eq!(run(&server, &["show", "tea", "--model", &first]).status.code(), Some(1));
}
