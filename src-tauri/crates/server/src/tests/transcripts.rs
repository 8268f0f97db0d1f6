//! Golden transcripts: a model's words and some requests in, what clients get out, in every dialect.
//!
//! Each file in `transcripts/` is a script, a line of dashes, and the expected transcript. After a change of behaviour,
//! write them anew with `cargo test -p server --features bless transcripts` and read the diff.
//!
//! A script's first line is what the model says, `null` for one that breaks off; then comes a line for each request and
//! one for its body. The model writes thoughts and calls, where it does, between the tags of ChatML's family. In the
//! transcript `…` stands for what differs from run to run: ids, times and signatures.

use std::fmt::Write;
use std::path::PathBuf;

use super::tools::{rig, thoughtful};
use super::*;

/// Fields whose values are times.
const TIMES: [&str; 7] = [
    "created",
    "created_at",
    "modified_at",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
];

/// Digits of ids and digests: nothing else has as many.
const ID_DIGITS: usize = 32;

async fn play(script: &str) -> String {
    let mut lines = script.lines();
    let script = match serde_json::from_str(lines.next().unwrap()).unwrap() {
        Some(says) => Script::Says(says),
        None => Script::NotFinite,
    };
    let mut out = String::new();
    while let Some(target) = lines.next() {
        // Each by itself, or one would be told what another left behind.
        let rig = rig(thoughtful, script.clone()).await;
        let body = lines.next().unwrap_or_else(|| panic!("{target} has no body"));
        let (method, path) = target.split_once(' ').unwrap();
        let answer = match method {
            "GET" => rig.get(path).await,
            _ => rig.post(path, body).await,
        };
        let kind = answer.header("content-type");
        writeln!(out, "{target}\n{} {kind}\n{}\n", answer.status, masked(&answer.text).trim_end()).unwrap();
    }
    out
}

/// The text with `…` for what differs from run to run.
fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    for name in TIMES {
        let start = format!("\"{name}\":");
        let mut pieces = text.split(start.as_str());
        let mut out = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let n_value = match piece.strip_prefix('"') {
                Some(rest) => rest.find('"').map_or(piece.len(), |at| at + 2),
                None => piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len()),
            };
            out += &format!("{start}…{}", &piece[n_value..]);
        }
        text = out;
    }
    let mut out = String::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let n_digits = rest.bytes().take_while(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).count();
        match n_digits {
            0 => {
                let first = rest.chars().next().unwrap();
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
            n => {
                out.push_str(if n >= ID_DIGITS { "…" } else { &rest[..n] });
                rest = &rest[n..];
            }
        }
    }
    out
}

async fn check(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/tests/transcripts/{name}.txt"));
    let file = std::fs::read_to_string(&path).unwrap();
    let (script, expected) = file.split_once("----\n").unwrap();
    let actual = play(script).await;
    if cfg!(feature = "bless") {
        std::fs::write(&path, format!("{script}----\n{actual}")).unwrap();
        return;
    }
    assert!(actual == expected, "{name}: expected\n{expected}\ngot\n{actual}");
}

macro_rules! transcripts {
    ($($name:ident)*) => { $(#[tokio::test] async fn $name() { check(stringify!($name)).await; })* };
}

transcripts! {
    anthropic_says_it_whole_and_in_events
    anthropic_thinks_and_calls
    anthropic_says_what_is_wrong
    anthropic_breaks_off
    responses_say_it_whole_and_in_events
    responses_think_and_call
    responses_say_what_is_wrong
    responses_break_off
    ollama_says_it_whole_and_in_lines
    ollama_thinks_and_calls
    ollama_says_what_is_wrong
    ollama_breaks_off
    chat_completions_say_it_whole_and_in_chunks
    chat_completions_think_and_call
    chat_completions_say_what_is_wrong
    chat_completions_break_off
    completions_say_it_whole_and_in_chunks
}
