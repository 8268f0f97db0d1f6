//! Context outlives the process: restarts, kills, other models, and a pool that is too small for everybody.

use std::fmt::Write;

use serde_json::{Value, json};

#[cfg(target_os = "linux")]
use crate::disk::segments;
use crate::harness::answer::{chat, endless_chat};
use crate::harness::{GEMMA3, Response, SMOLLM2, Samovar, Setup, eventually};

/// Tokens of a block, as the settings have it.
const BLOCK: u64 = 32;

/// Some English of about `1.3 * n_words` tokens, different from the start for every `salt`.
pub(crate) fn prose(salt: usize, n_words: usize) -> String {
    const WORDS: [&str; 24] = [
        "river", "window", "seven", "green", "under", "letter", "morning", "stone", "quiet", "paper",
        "winter", "market", "garden", "silver", "bridge", "music", "harbour", "light", "table", "north",
        "story", "little", "engine", "cloud",
    ];
    let mut text = format!("Note {salt}:");
    for i in 0..n_words {
        let word = WORDS[(i * i + 7 * i * (salt + 1) + salt * 5 + i / 24) % WORDS.len()];
        write!(text, " {word}{}", if i % 11 == 10 { "." } else { "" }).expect("a string");
    }
    text
}

/// A greedy completion of plain text; both models can do that.
pub(crate) fn complete(server: &Samovar, prompt: &str, max_tokens: usize) -> Answer {
    let body = json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true});
    Answer::of(&server.post("/v1/completions", &body))
}

/// What a test looks at in an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) cached_tokens: u64,
}

impl Answer {
    pub(crate) fn of(response: &Response) -> Answer {
        assert_eq!(response.status, 200, "{}", response.body);
        let body = response.json();
        let choice = &body["choices"][0];
        let text = choice["text"].as_str().or_else(|| choice["message"]["content"].as_str()).unwrap();
        let usage = &body["usage"];
        let count = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("a count in {usage}"));
        Answer {
            text: text.to_owned(),
            prompt_tokens: count(&usage["prompt_tokens"]),
            completion_tokens: count(&usage["completion_tokens"]),
            cached_tokens: count(&usage["prompt_tokens_details"]["cached_tokens"]),
        }
    }

    /// Prompt tokens in whole blocks, as far as they may be reused: the last token is always computed.
    pub(crate) fn whole_blocks(&self) -> u64 {
        (self.prompt_tokens - 1) / BLOCK * BLOCK
    }
}

/// The value of a metric; of a family the sum.
pub(crate) fn metric(server: &Samovar, name: &str) -> f64 {
    let text = server.get("/metrics").body;
    let lines: Vec<f64> = text
        .lines()
        .filter(|line| line.split([' ', '{']).next() == Some(name))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(!lines.is_empty(), "no {name} in\n{text}");
    lines.iter().sum()
}

/// Quit, and start again with the same settings over the same folder.
pub(crate) fn restarted(server: Samovar) -> Samovar {
    stopped(server).ready()
}

/// Quit; what comes back can be changed before it starts.
pub(crate) fn stopped(mut server: Samovar) -> Setup {
    server.signal("TERM");
    assert_eq!(server.wait_for_exit(), 0, "{}", server.stderr());
    server.again()
}

/// Kill it as a power cut would, and wait until it is gone.
fn killed(mut server: Samovar) -> Setup {
    server.signal("KILL");
    eventually("it is gone", || (!server.is_running()).then_some(()));
    server.again()
}

#[test]
fn after_a_restart_a_prompt_is_warm_and_its_answer_the_same() {
    // Gemma's window is 512 tokens: what it needs is not the start of the prompt but its end.
    for (model, n_words) in [(SMOLLM2, 500), (GEMMA3, 700)] {
        let server = Setup::new(model).ready();
        let prompt = prose(1, n_words);
        let cold = complete(&server, &prompt, 24);
        assert_eq!(cold.cached_tokens, 0, "{cold:?}");
        let server = restarted(server);
        let warm = complete(&server, &prompt, 24);
        assert!(warm.cached_tokens >= warm.whole_blocks(), "{model}: {warm:?}");
        assert_eq!(warm.text, cold.text, "{model}");
        assert!(metric(&server, "samovar_restored_blocks_total") > 0.0);
        let record = &server.get("/admin/requests").json()["requests"][0];
        assert_eq!(record["restored_tokens"].as_u64(), Some(warm.cached_tokens), "{record}");
        assert_eq!(record["restore_misses"], json!({}), "{record}");
        // The file was not read again for its digest: that was remembered by the first start.
        assert!(server.data().join("model-digests").is_file());

        let longer = format!("{prompt}{} And then", cold.text);
        let next = complete(&server, &longer, 8);
        assert!(next.cached_tokens >= warm.prompt_tokens, "{model}: {next:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_the_system_has_nothing_of_in_memory_is_as_warm_and_its_answer_the_same() {
    for model in [SMOLLM2, GEMMA3] {
        let server = Setup::new(model).ready();
        let prompt = prose(1, 700);
        let cold = complete(&server, &prompt, 24);
        let server = restarted(server);
        for path in segments(server.data()) {
            let file = std::fs::File::open(path).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
        let warm = complete(&server, &prompt, 24);
        assert!(warm.cached_tokens >= warm.whole_blocks(), "{model}: {warm:?}");
        assert_eq!(warm.text, cold.text, "{model}");
    }
}

/// A first turn that is sampled and cut by its length, and the body of the second turn.
fn first_turn(server: &Samovar, headers: &[(&str, &str)]) -> (Answer, Value) {
    let mut body = endless_chat(&format!("{} Tell me what this is about.", prose(2, 300)), 40);
    body["temperature"] = json!(1.0);
    body["seed"] = json!(7);
    let first = Answer::of(&server.post_with("/v1/chat/completions", headers, &body));
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": first.text}));
    messages.push(json!({"role": "user", "content": "Go on."}));
    (first, body)
}

#[test]
fn after_a_restart_a_next_turn_without_a_name_prefills_only_what_the_user_added_too() {
    let server = Samovar::ready();
    let (first, next) = first_turn(&server, &[]);
    assert_eq!(server.get("/v1/agents").json()["data"], json!([]));
    let server = restarted(server);
    let second = Answer::of(&server.post("/v1/chat/completions", &next));
    let n_computed = first.prompt_tokens + first.completion_tokens - 1;
    assert!(second.cached_tokens >= n_computed, "{n_computed} of {second:?}");
    let record = &server.get("/admin/requests").json()["requests"][0];
    assert!(record["spliced_tokens"].as_u64() >= Some(first.completion_tokens - 1), "{record}");
}

#[test]
fn after_a_restart_the_next_turn_of_an_agent_prefills_only_what_the_user_added() {
    let server = Samovar::ready();
    let session = [("X-Session-ID", "research")];
    let (first, next) = first_turn(&server, &session);
    let server = restarted(server);
    let second = Answer::of(&server.post_with("/v1/chat/completions", &session, &next));
    // The last token of an answer is sampled and not computed.
    let n_computed = first.prompt_tokens + first.completion_tokens - 1;
    assert!(second.cached_tokens >= n_computed, "{n_computed} of {second:?}");
    let record = &server.get("/admin/requests").json()["requests"][0];
    assert_eq!(record["agent"], "research");
    assert!(record["spliced_tokens"].as_u64() >= Some(first.completion_tokens - 1), "{record}");
}

#[test]
fn after_a_restart_what_a_windowed_model_wrote_is_taken_up_where_it_is_sent_back() {
    for (temperature, stop) in [(0.0, json!(null)), (1.0, json!(null)), (1.0, json!([". "]))] {
        let server = Setup::new(GEMMA3).ready();
        let prompt = prose(60, 500);
        let mut body = json!({"prompt": prompt, "max_tokens": 60, "temperature": temperature, "seed": 3,
            "ignore_eos": true, "session_id": "writer"});
        if !stop.is_null() {
            body["stop"] = stop.clone();
        }
        let first = Answer::of(&server.post("/v1/completions", &body));
        assert!(first.prompt_tokens > 512, "one window holds all of it: {first:?}");
        body["prompt"] = json!(format!("{prompt}{} Besides,", first.text));
        let server = restarted(server);
        let next = Answer::of(&server.post("/v1/completions", &body));
        // The last token was sampled and not computed. A last block that has tokens of a stop string, which are not in
        // the text, is another one than the text's.
        let n_lost = if stop.is_null() { 1 } else { 3 + BLOCK };
        let n_before = first.prompt_tokens + first.completion_tokens;
        assert!(next.cached_tokens + n_lost >= n_before, "{temperature} {stop}: {first:?} then {next:?}");
        let fresh = Setup::new(GEMMA3).with("--store", "off").ready();
        let record = &server.get("/admin/requests").json()["requests"][0];
        // Where the text is cut otherwise than it was generated, a cold server reads other tokens.
        if record["spliced_tokens"] == 0 {
            assert_eq!(Answer::of(&fresh.post("/v1/completions", &body)).text, next.text);
        }
    }
}

#[test]
fn another_model_sees_nothing_and_the_first_one_comes_back_to_what_it_had() {
    for (one, other) in [(SMOLLM2, GEMMA3), (GEMMA3, SMOLLM2)] {
        let path = |name| crate::harness::model(name).display().to_string();
        let server = Setup::new(one).ready();
        let prompt = prose(3, 400);
        let cold = complete(&server, &prompt, 8);
        let server = stopped(server).with("--model", &path(other)).ready();
        let foreign = complete(&server, &prompt, 8);
        assert_eq!(foreign.cached_tokens, 0, "{foreign:?}");
        let server = stopped(server).with("--model", &path(one)).ready();
        let warm = complete(&server, &prompt, 8);
        assert!(warm.cached_tokens >= warm.whole_blocks(), "{one}: {warm:?}");
        assert_eq!(warm.text, cold.text, "{one}");
    }
}

#[test]
fn the_same_shape_with_other_weights_is_never_a_hit() {
    [SMOLLM2, GEMMA3].into_iter().for_each(check_other_weights);
}

fn check_other_weights(model: &str) {
    let server = Setup::new(model).ready();
    let prompt = prose(4, 300);
    complete(&server, &prompt, 4);
    let setup = stopped(server);
    // One bit of the last tensor; the file has the same name and size.
    let path = setup.data().join(model);
    let mut bytes = std::fs::read(crate::harness::model(model)).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let server = setup.with("--model", &path.display().to_string()).ready();
    assert_eq!(complete(&server, &prompt, 4).cached_tokens, 0);
}

#[test]
fn an_answer_that_a_deadline_cut_off_goes_on_warm_after_a_restart() {
    for model in [SMOLLM2, GEMMA3] {
        let mut server = Setup::new(model).with("--drain-timeout", "0").ready();
        let prompt = prose(5, 300);
        let body = json!({"prompt": prompt, "max_tokens": 4000, "temperature": 0, "ignore_eos": true});
        let mut stream = server.stream("/v1/completions", &body);
        while stream.wait_for_text().text.len() < 200 {}
        server.signal("TERM");
        let so_far = stream.finish();
        assert!(so_far.error.is_some(), "{model}: {so_far:?}");
        assert_eq!(server.wait_for_exit(), 3);
        let server = server.again().ready();
        let again = complete(&server, &format!("{prompt}{}", so_far.text), 4);
        // All of it but what the end of the text may tokenise to by itself, and the last token, which was not
        // computed.
        assert!(again.cached_tokens + 4 >= again.prompt_tokens, "{model}: {again:?}");
    }
}

#[test]
fn what_was_saved_before_a_kill_is_warm_and_the_answer_so_far_with_it() {
    // A token's keys and values lie in so many blocks at the same time, one for each layer group.
    for (model, n_groups) in [(SMOLLM2, 1), (GEMMA3, 6)] {
        let server = Setup::new(model).ready();
        let prompt = prose(6, 300);
        let body = json!({"prompt": prompt, "max_tokens": 4000, "temperature": 0, "ignore_eos": true});
        let mut stream = server.stream("/v1/completions", &body);
        let mut so_far = String::new();
        // Two blocks of the answer are durable.
        eventually("the answer is on its way to disk", || {
            so_far = stream.wait_for_text().text.clone();
            (so_far.len() > 600 && metric(&server, "samovar_store_queued_bytes") == 0.0).then_some(())
        });
        let n_saved = metric(&server, "samovar_store_saved_blocks_total") as u64 / n_groups * BLOCK;
        let server = killed(server).ready();
        let again = complete(&server, &format!("{prompt}{so_far}"), 4);
        assert!(again.cached_tokens >= n_saved.min(again.whole_blocks()), "{model}: {n_saved} of {again:?}");
        assert!(n_saved > 350, "{model}: the answer was not saved while it ran: {n_saved} tokens");
        let fresh = Setup::new(model).ready();
        assert_eq!(complete(&fresh, &format!("{prompt}{so_far}"), 4).text, again.text, "{model}");
    }
}

#[test]
fn more_agents_than_the_pool_holds_all_come_back_warm() {
    // 40 blocks of 737,280 bytes, and 240 of 98,304 in six groups; each of the four needs some 14 in each group and a
    // few to go on.
    for (model, pool) in [(SMOLLM2, "29491200"), (GEMMA3, "23592960")] {
        let server = Setup::new(model).with("--kv-pool", pool).ready();
        let prompts: Vec<String> = (0..4).map(|i| prose(10 + i, 300)).collect();
        let ask = |i: usize| {
            let mut body =
                json!({"prompt": prompts[i], "max_tokens": 8, "temperature": 0, "ignore_eos": true});
            body["session_id"] = json!(format!("agent-{i}"));
            Answer::of(&server.post("/v1/completions", &body))
        };
        let cold: Vec<Answer> = (0..4).map(ask).collect();
        for round in 0..2 {
            for (i, cold) in cold.iter().enumerate() {
                let warm = ask(i);
                let what = format!("{model}, round {round}, agent {i}");
                assert!(warm.cached_tokens >= warm.whole_blocks(), "{what}: {warm:?}");
                assert_eq!(warm.text, cold.text, "{what}");
            }
        }
        assert!(metric(&server, "samovar_evictions_total") > 0.0, "the pool held them all");
        assert!(metric(&server, "samovar_restored_blocks_total") > 0.0);
    }
}

#[test]
fn a_short_prompt_of_nobody_is_not_written_until_an_agent_goes_on_with_it() {
    let server = Samovar::ready();
    let body = chat("Name a colour.", 4);
    Answer::of(&server.post("/v1/chat/completions", &body));
    let server = restarted(server);
    let status = &server.get("/admin/status").json()["store"];
    assert_eq!((&status["saving"], &status["blocks"]), (&json!("saving"), &json!(0)), "{status}");

    let mut body = chat(&prose(7, 40), 4);
    let anonymous = Answer::of(&server.post("/v1/chat/completions", &body));
    body["session_id"] = json!("somebody");
    let named = Answer::of(&server.post("/v1/chat/completions", &body));
    assert_eq!(named.cached_tokens, anonymous.prompt_tokens - 1, "{named:?}");
    let server = restarted(server);
    let warm = Answer::of(&server.post("/v1/chat/completions", &body));
    assert!(warm.cached_tokens >= warm.whole_blocks(), "{warm:?}");
    assert_eq!(warm.text, anonymous.text);
}

#[test]
fn a_worker_that_panicked_comes_back_to_what_is_on_disk() {
    for (model, n_groups) in [(SMOLLM2, 1), (GEMMA3, 6)] {
        let server = Setup::new(model).ready();
        let prompt = prose(8, 300);
        let cold = complete(&server, &prompt, 8);
        eventually("it is on disk", || {
            let n_saved = metric(&server, "samovar_store_saved_blocks_total") as u64 / n_groups;
            (n_saved > cold.prompt_tokens / BLOCK).then_some(())
        });
        server.ask_for_fault("step.panic");
        let body = json!({"prompt": "Tea is", "max_tokens": 4});
        assert_eq!(server.post("/v1/completions", &body).status, 500);
        server.wait_until_ready();
        let warm = complete(&server, &prompt, 8);
        assert!(warm.cached_tokens >= warm.whole_blocks(), "{model}: {warm:?}");
        assert_eq!(warm.text, cold.text, "{model}");
        assert!(metric(&server, "samovar_restored_blocks_total") > 0.0);
    }
}

#[test]
fn a_prompt_edited_in_the_middle_is_taken_up_at_the_edit_also_from_disk() {
    for model in [SMOLLM2, GEMMA3] {
        let server = Setup::new(model).ready();
        let (start, end) = (prose(9, 450), prose(50, 350));
        let prompt = format!("{start} {end}");
        complete(&server, &prompt, 4);
        let n_start = complete(&server, &start, 1).prompt_tokens;
        let server = restarted(server);
        let edited = format!("{start} {}", prose(51, 350));
        let warm = complete(&server, &edited, 8);
        // The store has the window of every place, so the block before the edit is where it goes on.
        assert!(warm.cached_tokens + 2 * BLOCK > n_start, "{model}: {n_start} of {warm:?}");
        let fresh = Setup::new(model).with("--store", "off").ready();
        assert_eq!(complete(&fresh, &edited, 8).text, warm.text, "{model}");
    }
}
