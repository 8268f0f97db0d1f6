//! Templates are rendered byte for byte as Python's Jinja renders them, or fail where it fails.
//!
//! What Python gives is in `data`, made by `src-tauri/dev/templates/templates.py`.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use support::reference;
use text::{Chat, ChatMessage, ChatRenderer, ChatTemplate, RENDER_STACK_BYTES, TextError};

/// What a template gives for a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Text(String),
    /// It refuses the chat in its own words.
    Refused(String),
    Failed(String),
}

fn template(source: &str) -> ChatTemplate {
    let text = |text: &str| Some(text.to_owned());
    ChatTemplate {
        source: source.to_owned(),
        bos: text("<s>"),
        eos: text("</s>"),
        unk: text("<unk>"),
        pad: text("<pad>"),
        ..ChatTemplate::default()
    }
}

fn outcome(renderer: &Result<ChatRenderer, TextError>, chat: &Chat, now: SystemTime) -> Outcome {
    match renderer.as_ref().map_err(Clone::clone).and_then(|renderer| renderer.render(chat, now)) {
        Ok(rendered) => Outcome::Text(rendered.plain()),
        Err(TextError::Refused(message)) => Outcome::Refused(message),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn data(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn clock(file: &Value) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(file["clock"].as_u64().unwrap())
}

/// On a stack as rendering has it in the product.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(RENDER_STACK_BYTES).spawn_scoped(scope, work).unwrap();
        thread.join().unwrap()
    })
}

/// The chats by their names, without and with a generation prompt.
fn cases(file: &Value) -> Vec<(String, Chat)> {
    let mut cases = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let messages: Vec<ChatMessage> = case["messages"].as_array().unwrap().iter().map(message).collect();
        let mut extra = case["variables"].as_object().cloned().unwrap_or_default();
        if case["tools"] == json!(true) {
            extra.insert("tools".into(), file["tools"].clone());
        }
        for (ending, add_generation_prompt) in [("", false), (".prompt", true)] {
            let (messages, extra) = (messages.clone(), extra.clone());
            let chat = Chat { messages, add_generation_prompt, extra, ..Chat::default() };
            cases.push((format!("{}{ending}", case["name"].as_str().unwrap()), chat));
        }
    }
    cases
}

fn message(value: &Value) -> ChatMessage {
    let mut extra: Map<String, Value> = value.as_object().unwrap().clone();
    let mut take = |key: &str| extra.shift_remove(key).map(|text| text.as_str().unwrap().to_owned());
    let mut message = ChatMessage::new(take("role").unwrap(), take("content").unwrap());
    message.name = take("name");
    message.extra = extra;
    message
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// A template of the reference's, and what Python makes of it.
struct Reference {
    name: String,
    source_digest: String,
    /// Cases and lines that say what comes of them.
    lines: Vec<(String, String)>,
}

fn references() -> Vec<Reference> {
    let mut references: Vec<Reference> = Vec::new();
    for line in data("templates.digests").lines() {
        let (first, rest) = line.split_once(' ').unwrap();
        if first == "=" {
            let (name, source_digest) = rest.split_once(' ').unwrap();
            let (name, source_digest) = (name.to_owned(), source_digest.to_owned());
            references.push(Reference { name, source_digest, lines: Vec::new() });
        } else {
            references.last_mut().unwrap().lines.push((first.to_owned(), rest.to_owned()));
        }
    }
    references
}

fn source(name: &str) -> String {
    if name.starts_with("ggml-vocab-") {
        let file = reference::folder("vocabularies").join(format!("{name}.gguf"));
        return support::read(file).chat_template.expect("it has a template");
    }
    let file = reference::folder("templates").join(format!("{name}.jinja"));
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}; run `make reference`", file.display()))
}

#[test]
fn templates_that_people_use_are_rendered_as_python_renders_them() {
    let file: Value = serde_json::from_str(&data("template_cases.json")).unwrap();
    let cases = cases(&file);
    let wanted = std::env::var_os("SAMOVAR_TEST_RENDERINGS").map(PathBuf::from);
    let folder =
        wanted.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("renderings"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut different = String::new();
    for Reference { name, source_digest, lines } in reference::tenth(references()) {
        let source = source(&name);
        assert_eq!(digest(&source), source_digest, "{name} is another; run `make reference`");
        assert_eq!(lines.len(), cases.len(), "{name}");
        let outcomes: Vec<Outcome> = with_stack(|| {
            let renderer = ChatRenderer::new(&template(&source));
            cases.iter().map(|(_, chat)| outcome(&renderer, chat, clock(&file))).collect()
        });
        for (((case, want), (name_of_case, _)), outcome) in lines.iter().zip(&cases).zip(&outcomes) {
            assert_eq!(case, name_of_case, "{name}");
            let (line, text) = match outcome {
                Outcome::Text(text) => (format!("{} {}", text.len(), digest(text)), text.clone()),
                Outcome::Refused(message) => {
                    (format!("refused {}", json!(message)), format!("refused: {message}\n"))
                }
                Outcome::Failed(error) => ("failed".to_owned(), format!("failed: {error}\n")),
            };
            let is_same = line == *want;
            if wanted.is_some() || !is_same {
                fs::write(folder.join(format!("{name}+{case}")), &text).unwrap();
            }
            if !is_same {
                writeln!(different, "{name} {case}: {line} instead of {want}").unwrap();
            }
        }
    }
    let command = format!(
        "VENV/bin/python src-tauri/dev/templates/templates.py check {} shows the differences",
        folder.display()
    );
    assert!(different.is_empty(), "\n{different}{command}");
}

#[test]
fn every_part_of_the_language_does_what_it_does_in_python() {
    let file = data("expressions.jsonl");
    let (head, lines) = file.split_once('\n').unwrap();
    let head: Value = serde_json::from_str(head).unwrap();
    let chat = Chat { extra: head["variables"].as_object().unwrap().clone(), ..Chat::default() };
    let mut different = String::new();
    let mut n = 0;
    for line in lines.lines() {
        let (source, want): (String, Option<String>) = serde_json::from_str(line).unwrap();
        let got = with_stack(|| outcome(&ChatRenderer::new(&template(&source)), &chat, clock(&head)));
        let is_same = match (&got, &want) {
            (Outcome::Text(got), Some(want)) => got == want,
            (Outcome::Refused(_) | Outcome::Failed(_), None) => true,
            _ => false,
        };
        if !is_same {
            writeln!(different, "{source:?}\n  python {want:?}\n  ours   {got:?}").unwrap();
        }
        n += 1;
    }
    assert!(n > 300, "{n}");
    assert!(different.is_empty(), "\n{different}");
}
