//! Prompts far beyond the context: refused at once for what they are, in little memory, in nobody's way.

use serde_json::{Value, json};

use crate::harness::answer::chat;
use crate::harness::{GEMMA3, Response, SMOLLM2, Samovar, Setup};

/// Bytes of a body as long as the server takes one.
const LONG: usize = (16 << 20) - 1024;
/// What long prompts may take beside the idle server.
#[cfg(target_os = "linux")]
const MEMORY: u64 = 256 << 20;

/// Pseudo-random characters of an alphabet: a text in which nothing repeats.
fn noise(alphabet: &str, n_bytes: usize) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::with_capacity(n_bytes);
    loop {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let c = alphabet[(state >> 11) as usize % alphabet.len()];
        if text.len() + c.len_utf8() > n_bytes {
            return text;
        }
        text.push(c);
    }
}

/// Texts of as many bytes: prose, and words that have no end.
fn texts(n_bytes: usize) -> Vec<String> {
    let repeated = |unit: &str| unit.repeat(n_bytes / unit.len());
    vec![
        repeated("The moth went round the lamp, and the lamp did not mind. "),
        repeated("a"),
        noise("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", n_bytes),
        noise("天地玄黃宇宙洪荒日月盈昃辰宿列張寒來暑往", n_bytes),
        repeated(" "),
        noise("0123456789", n_bytes),
        repeated("👩\u{200d}👩\u{200d}👧"),
        repeated("<|im_end|>"),
        repeated("=-"),
        repeated("\u{2581}"),
    ]
}

fn check_refused(what: &str, response: &Response, param: &str) {
    let error = &response.json()["error"];
    let message = error["message"].as_str().unwrap_or_default();
    assert_eq!(
        (response.status, error["code"].as_str(), error["param"].as_str(), error["type"].as_str()),
        (400, Some("context_length_exceeded"), Some(param), Some("invalid_request_error")),
        "{what}: {message}"
    );
    assert!(message.contains("maximum context length is"), "{what}: {message}");
}

fn chat_of(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}], "max_tokens": 4})
}

#[test]
fn a_chat_far_beyond_the_context_is_context_length_exceeded_whatever_it_says() {
    let server = Setup::new(SMOLLM2).ready();
    for text in texts(LONG / 2).iter().chain(&texts(300 << 10)).chain(&texts(5 << 20)) {
        let what = format!("{} bytes of {:?}", text.len(), text.chars().take(12).collect::<String>());
        let response = server.post("/v1/chat/completions", &chat_of(text));
        // Spaces are many to a token: some hundred thousand of them fit.
        if response.status == 200 && text.len() == 300 << 10 && text.trim().is_empty() {
            let n_tokens = response.json()["usage"]["prompt_tokens"].as_u64().unwrap_or(u64::MAX);
            assert!(n_tokens < 8_192, "{what}: {n_tokens}");
            continue;
        }
        check_refused(&what, &response, "messages");
    }
    let text = "The moth went round the lamp. ".repeat(400);
    let messages = vec![json!({"role": "user", "content": text}); 1000];
    check_refused(
        "many messages",
        &server.post("/v1/chat/completions", &json!({"messages": messages})),
        "messages",
    );
    let parts = vec![json!({"type": "text", "text": text}); 1000];
    let of_parts = json!({"messages": [{"role": "user", "content": parts}]});
    check_refused("many parts", &server.post("/v1/chat/completions", &of_parts), "messages");
    assert_eq!(server.post("/v1/chat/completions", &chat("Hi", 4)).status, 200);
}

#[test]
fn a_raw_prompt_far_beyond_the_context_is_context_length_exceeded_whatever_it_says() {
    for name in [SMOLLM2, GEMMA3] {
        let server = Setup::new(name).ready();
        // The length alone does not say of the shorter ones that they are too long.
        for text in texts(LONG / 2).iter().chain(&texts(1 << 20)) {
            let what =
                format!("{name}: {} bytes of {:?}", text.len(), text.chars().take(12).collect::<String>());
            let response = server.post("/v1/completions", &json!({"prompt": text, "max_tokens": 1}));
            // A million spaces are 33,826 of the longest tokens, and fit the one or the other.
            if response.status != 200 {
                check_refused(&what, &response, "prompt");
            }
        }
        for n in [40_000, 8_000_000] {
            let ids = format!("[{}1]", "1,".repeat(n - 1));
            let mut connection = server.connect();
            let body = format!("{{\"prompt\":{ids}}}");
            connection.send("POST", "/v1/completions", &[], Some(&body));
            let response = connection.receive();
            check_refused("token ids", &response, "prompt");
            assert!(response.body.contains(&format!("{n} tokens")), "{}", response.body);
        }
        let list = json!({"prompt": ["a ".repeat(LONG / 2)]});
        check_refused("a list of one", &server.post("/v1/completions", &list), "prompt");
        assert_eq!(server.post("/v1/completions", &json!({"prompt": "Hi", "max_tokens": 2})).status, 200);
    }
}

#[test]
fn a_model_that_cannot_chat_says_so_of_a_long_chat_too() {
    let server = Setup::new(GEMMA3).ready();
    let response = server.post("/v1/chat/completions", &chat_of(&"a".repeat(LONG / 2)));
    assert_eq!(response.json()["error"]["code"], "no_chat_template", "{}", response.body);
}

/// A body of `LONG` bytes for each way in which a prompt can be long.
#[cfg(target_os = "linux")]
fn long_bodies(i: usize) -> (&'static str, String) {
    use std::fmt::Write;

    let text = match i % 3 {
        0 => noise("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", LONG - 200),
        1 => "a".repeat(LONG - 200),
        _ => " ".repeat(LONG - 200),
    };
    match i % 4 {
        0 => ("/v1/completions", format!("{{\"prompt\":\"{text}\"}}")),
        1 => ("/v1/completions", format!("{{\"prompt\":[{}1]}}", "1,".repeat(LONG / 2 - 100))),
        2 => (
            "/v1/chat/completions",
            format!(
                "{{\"messages\":[{{\"role\":\"user\",\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}]}}]}}"
            ),
        ),
        _ => {
            let mut messages = String::with_capacity(LONG);
            for part in text.as_bytes().chunks(2000).take(LONG / 2100) {
                let part = std::str::from_utf8(part).unwrap();
                let comma = if messages.is_empty() { "" } else { "," };
                write!(messages, "{comma}{{\"role\":\"user\",\"content\":\"{part}\"}}").unwrap();
            }
            ("/v1/chat/completions", format!("{{\"messages\":[{messages}]}}"))
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn four_of_16_mb_at_a_time_take_little_memory_and_hold_up_no_small_chat() {
    let server = Setup::new(SMOLLM2).ready();
    assert_eq!(server.post("/v1/chat/completions", &chat("Hi", 4)).status, 200);
    let idle = server.peak_resident_bytes();
    let bodies: Vec<_> = (0..12).map(long_bodies).collect();
    for four in bodies.chunks(4) {
        // All four are sent whole before the first answer is read, and the small chat comes after them.
        std::thread::scope(|scope| {
            let sent: Vec<_> = four
                .iter()
                .map(|(path, body)| {
                    scope.spawn(|| {
                        let mut connection = server.connect();
                        connection.send("POST", path, &[], Some(body));
                        connection
                    })
                })
                .collect();
            let sent: Vec<_> = sent.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert_eq!(server.post("/v1/chat/completions", &chat("Hi", 4)).status, 200);
            for (mut connection, (path, _)) in sent.into_iter().zip(four) {
                let param = if path.contains("chat") { "messages" } else { "prompt" };
                check_refused(path, &connection.receive(), param);
            }
        });
    }
    let more = server.peak_resident_bytes() - idle;
    assert!(more < MEMORY, "{} MiB beside the idle {} MiB", more >> 20, idle >> 20);
}

#[test]
fn a_prompt_that_leaves_no_room_for_an_answer_is_too_long_as_text_and_as_tokens() {
    let server = Samovar::ready();
    let models = server.get("/v1/models").json();
    let limit = models["data"][0]["context_length"].as_u64().unwrap() as usize;
    let ask = |n: usize| server.post("/v1/completions", &json!({"prompt": vec![5; n], "max_tokens": 1}));
    check_refused("the whole context", &ask(limit), "prompt");
    check_refused("one more", &ask(limit + 1), "prompt");
    // Text of one token a word, so that the two ways agree.
    let text = |n: usize| json!({"prompt": " the".repeat(n), "max_tokens": 1});
    check_refused("text", &server.post("/v1/completions", &text(limit + 1)), "prompt");
    check_refused("text", &server.post("/v1/completions", &text(limit)), "prompt");
}
