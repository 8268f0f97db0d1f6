//! What is reused of an earlier request, in memory: that it is as much as promised, and never what another one said.
//!
//! Prompts of token ids where the count matters: nothing is left to how a text happens to be cut.

use serde_json::{Value, json};

use crate::harness::answer::chat;
use crate::harness::{GEMMA3, Response, SMOLLM2, Samovar, Setup};

/// Tokens of Gemma's windows.
const WINDOW: usize = 512;

/// `n` tokens of a sequence that `seed` tells from others.
fn tokens(seed: usize, n: usize) -> Vec<usize> {
    (0..n).map(|i| 1_000 + (i * 37 + seed * 7_919) % 20_000).collect()
}

/// A greedy completion of token ids that does not end before `max_tokens`.
fn completion(prompt: &[usize], max_tokens: usize) -> Value {
    json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true, "logprobs": 2})
}

fn cached(response: &Response) -> usize {
    assert_eq!(response.status, 200, "{}", response.body);
    let usage = &response.json()["usage"];
    usage["prompt_tokens_details"]["cached_tokens"].as_u64().expect("cached_tokens") as usize
}

/// The choices of an answer: text, log-probabilities and reason.
fn choices(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["choices"].clone()
}

/// The record of the request that was answered last.
fn last_record(server: &Samovar) -> Value {
    server.get("/admin/requests").json()["requests"][0].clone()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}")) as usize
}

/// What a fresh server answers.
fn cold(model: &str, body: &Value) -> Value {
    let server = Setup::new(model).ready();
    let answer = server.post("/v1/completions", body);
    assert_eq!(cached(&answer), 0);
    choices(&answer)
}

fn check_the_same_again(model: &str, n_prompt: usize) {
    let server = Setup::new(model).ready();
    let body = completion(&tokens(1, n_prompt), 8);
    let first = server.post("/v1/completions", &body);
    let again = server.post("/v1/completions", &body);
    assert_eq!((cached(&first), cached(&again)), (0, n_prompt - 1), "{model}");
    assert_eq!(choices(&first), choices(&again), "{model}: reuse changed the answer");
}

#[test]
fn of_the_same_prompt_everything_but_the_last_token_is_reused() {
    check_the_same_again(SMOLLM2, 333);
    check_the_same_again(GEMMA3, 2 * WINDOW + 77);
}

/// Ask, send the answer back with another question, and see what had to be computed for it.
fn check_next_turn(parameters: &Value, n_lost: usize) {
    let server = Samovar::ready();
    let mut body = chat("Write three short sentences about tea, then say goodbye.", 60);
    for (name, value) in parameters.as_object().expect("parameters") {
        body[name] = value.clone();
    }
    let first = server.post("/v1/chat/completions", &body);
    let answer = choices(&first)[0]["message"]["content"].as_str().expect("an answer").to_owned();
    assert!(answer.len() > 10, "{answer:?} is too short to show anything");
    let usage = &first.json()["usage"];
    let (n_prompt, n_answer) = (number(&usage["prompt_tokens"]), number(&usage["completion_tokens"]));

    let messages = body["messages"].as_array_mut().expect("messages");
    messages.push(json!({"role": "assistant", "content": answer}));
    messages.push(json!({"role": "user", "content": "And now about coffee."}));
    let next = server.post("/v1/chat/completions", &body);
    let n_cached = cached(&next);
    let record = last_record(&server);
    assert_eq!(number(&record["reused_tokens"]), n_cached);
    assert_eq!(number(&record["first_difference"]), n_cached);
    // The last token of an answer is sampled and never computed.
    assert!(
        n_cached + 1 + n_lost >= n_prompt + n_answer && n_cached <= n_prompt + n_answer,
        "{parameters}: {n_cached} reused of {n_prompt} + {n_answer}: {record}"
    );
    assert!(number(&record["spliced_tokens"]) + n_lost + 1 >= n_answer, "{parameters}: {record}");
    let n_new = number(&next.json()["usage"]["prompt_tokens"]) - n_cached;
    assert_eq!(number(&record["prefilled_tokens"]), n_new);
    // The question, the template's glue around it, and the end of the answer.
    assert!(n_new <= 24 + n_lost, "{parameters}: {n_new} tokens were computed");
}

#[test]
fn the_next_turn_prefills_only_what_the_user_added() {
    check_next_turn(&json!({}), 0);
    check_next_turn(&json!({"temperature": 1.0, "seed": 11}), 0);
    check_next_turn(&json!({"temperature": 1.0, "seed": 12, "max_tokens": 25}), 0);
    // The stop string and what of its tokens came before it are not part of the answer that comes back.
    check_next_turn(&json!({"stop": [". "]}), 2);
    check_next_turn(&json!({"temperature": 0.9, "seed": 5, "stop": ["and", "tea "]}), 3);
}

#[test]
fn with_windows_the_next_turn_prefills_only_what_was_added() {
    let server = Setup::new(GEMMA3).ready();
    let mut prompt = String::new();
    for line in 1..=240 {
        prompt += &format!("{line}\n");
    }
    let body = json!({"prompt": prompt, "max_tokens": 24, "temperature": 0});
    let first = server.post("/v1/completions", &body);
    let text = choices(&first)[0]["text"].as_str().expect("a text").to_owned();
    let usage = &first.json()["usage"];
    let n_before = number(&usage["prompt_tokens"]) + number(&usage["completion_tokens"]);
    assert!(n_before > WINDOW, "one window holds the {n_before} tokens");
    // Up to a whole line, so that the text is cut into the tokens that it was generated as.
    let whole = &text[..text.rfind('\n').expect("a line") + 1];
    let next = json!({"prompt": format!("{prompt}{whole}Then came"), "max_tokens": 4, "temperature": 0});
    let answer = server.post("/v1/completions", &next);
    let n_prompt = number(&answer.json()["usage"]["prompt_tokens"]);
    assert!(cached(&answer) + 6 >= n_prompt, "{} of {n_prompt} reused: {:?}", cached(&answer), whole);
    assert_eq!(choices(&answer), cold(GEMMA3, &next));
}

/// Ask for `n_prompt` tokens, then for the same with another token at `edit`; how much was reused of it.
fn reused_after_edit(model: &str, n_prompt: usize, edit: usize) -> usize {
    let server = Setup::new(model).ready();
    let prompt = tokens(2, n_prompt);
    let mut edited = prompt.clone();
    edited[edit] = 999;
    assert_eq!(cached(&server.post("/v1/completions", &completion(&prompt, 4))), 0);
    let body = completion(&edited, 6);
    let answer = server.post("/v1/completions", &body);
    assert_eq!(choices(&answer), cold(model, &body), "{model}: an edit at {edit}");
    cached(&answer)
}

#[test]
fn a_prompt_edited_in_the_middle_is_reused_up_to_the_edit() {
    assert_eq!(reused_after_edit(SMOLLM2, 500, 301), 301);
}

#[test]
fn with_windows_an_edited_prompt_is_reused_up_to_a_kept_window_before_the_edit() {
    for edit in [1_400, 2_047] {
        let n_reused = reused_after_edit(GEMMA3, 2_600, edit);
        assert!(n_reused <= edit && n_reused + 1_024 >= edit, "{n_reused} reused before an edit at {edit}");
    }
}

#[test]
fn a_strict_prefix_of_an_earlier_prompt_is_reused() {
    for (model, n_prompt, n_left, n_back) in
        [(SMOLLM2, 400, 250, 0), (GEMMA3, 2_000, 1_500, 1_024), (GEMMA3, 400, 250, 0)]
    {
        let server = Setup::new(model).ready();
        let prompt = tokens(3, n_prompt);
        server.post("/v1/completions", &completion(&prompt, 4));
        let body = completion(&prompt[..n_left], 6);
        let undone = server.post("/v1/completions", &body);
        let n_reused = cached(&undone);
        assert!(n_reused < n_left && n_reused + 1 + n_back >= n_left, "{model}: {n_reused} of {n_left}");
        assert_eq!(choices(&undone), cold(model, &body), "{model}");
    }
}

#[test]
fn of_two_agents_with_one_system_prompt_the_second_prefills_only_its_own_part() {
    let system = "You are a careful librarian who answers in one short sentence. ".repeat(20);
    let ask = |server: &Samovar, agent: &str, secret: &str| {
        let body = json!({
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": format!("My code word is {secret}. Which word did I give you?")},
            ],
            "max_tokens": 24, "temperature": 0, "logprobs": true,
        });
        server.post_with("/v1/chat/completions", &[("X-Session-ID", agent)], &body)
    };
    let server = Samovar::ready();
    let first = ask(&server, "one", "marmalade");
    let second = ask(&server, "two", "telescope");
    let n_prompt = number(&second.json()["usage"]["prompt_tokens"]);
    assert_eq!(cached(&first), 0);
    // Both go on with the same words up to their own.
    assert!(n_prompt > 250 && cached(&second) + 30 >= n_prompt, "{} of {n_prompt}", cached(&second));
    let record = last_record(&server);
    assert_eq!(
        (record["agent"].as_str(), number(&record["prefilled_tokens"])),
        (Some("two"), n_prompt - cached(&second))
    );

    // Nothing of the one is in the other's answer: it is that of a server that never met the first.
    let alone = Samovar::ready();
    let cold = ask(&alone, "two", "telescope");
    assert_eq!(cached(&cold), 0);
    assert_eq!(choices(&second), choices(&cold));
    assert_eq!(choices(&first), choices(&ask(&alone, "one", "marmalade")));
}

#[test]
fn with_windows_too_the_second_of_two_agents_prefills_only_its_own_part() {
    let (system, own) = (tokens(5, 2 * WINDOW), [tokens(6, 40), tokens(7, 40)]);
    let ask = |server: &Samovar, agent: usize| {
        let prompt = [system.as_slice(), &own[agent]].concat();
        let name = format!("agent-{agent}");
        server.post_with("/v1/completions", &[("X-Session-ID", &name)], &completion(&prompt, 8))
    };
    let server = Setup::new(GEMMA3).ready();
    let (first, second) = (ask(&server, 0), ask(&server, 1));
    assert_eq!((cached(&first), cached(&second)), (0, system.len()));
    let alone = Setup::new(GEMMA3).ready();
    let cold = ask(&alone, 1);
    assert_eq!(cached(&cold), 0);
    assert_eq!(choices(&second), choices(&cold));
    server.delete("/v1/agents/agent-0");
    let again = ask(&server, 1);
    assert_eq!((cached(&again), choices(&again)), (system.len() + own[1].len() - 1, choices(&cold)));
}
