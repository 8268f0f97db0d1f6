//! Answers in the forms of families, as golden streams: what a model writes, and what it says with that.
//!
//! Each stream is read in one piece, byte by byte and at random cuts; what is said must be the same. A file of
//! `tests/answers/` begins with the model's template, or as much of it as tells its family, and has its streams after
//! that. `SAMOVAR_TEST_BLESS=1 cargo test -p text --test answers` writes what is said now into the files; review the diff.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

#[allow(dead_code, reason = "of the support only the bytes are used")]
mod support;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use support::bytes::model;
use text::{AnswerParts, AnswerReader, AnswerReading, Begins, PartValue, Spoken, TextModel, Tool};

/// The tools that every stream may call.
fn tools() -> Vec<Tool> {
    let tool =
        |name: &str, parameters| Tool { name: name.into(), parameters: Some(parameters), ..Tool::default() };
    vec![
        tool(
            "get_weather",
            json!({"type": "object", "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "where": {"type": "object"},
                "exact": {"type": "boolean"},
                "unit": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            }}),
        ),
        tool(
            "write",
            json!({"type": "object", "properties": {"path": {"type": "string"}, "text": {"type": "string"}}}),
        ),
        tool("now", json!({"type": "object", "properties": {}})),
    ]
}

/// What is said, one line for each piece, neighbours of a kind joined.
fn transcript(pieces: impl IntoIterator<Item = Spoken>) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for piece in pieces {
        let (kind, text) = match piece {
            Spoken::Text { text, .. } => ("text", text),
            Spoken::Thoughts(text) => ("thoughts", text),
            Spoken::Call(name) => ("call", name),
            Spoken::Arguments(text) => ("arguments", text),
        };
        match lines.last_mut() {
            Some((last, before)) if *last == kind && kind != "call" => before.push_str(&text),
            _ => lines.push((kind, text)),
        }
    }
    lines.iter().fold(String::new(), |mut all, (kind, text)| {
        writeln!(all, "{kind} {text:?}").unwrap();
        all
    })
}

fn read<'a>(model: &TextModel, begins: Begins, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Spoken> {
    let form = Arc::clone(model.answer_form().unwrap());
    let mut reader = AnswerReader::new(form, tools(), begins);
    let mut said: Vec<Spoken> = pieces.into_iter().flat_map(|piece| reader.push(piece)).collect();
    said.extend(reader.finish());
    said
}

/// A generator of cuts: linear congruential, which is enough to reach every kind of cut.
struct Cuts(u64);

impl Cuts {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// What is said of a stream, which must not depend on how it is cut.
fn said_however_cut(model: &TextModel, begins: Begins, stream: &str) -> String {
    let whole = transcript(read(model, begins, [stream]));
    let chars: Vec<String> = stream.chars().map(String::from).collect();
    let by_char = transcript(read(model, begins, chars.iter().map(String::as_str)));
    assert_eq!(by_char, whole, "character by character: {stream:?}");
    let mut cuts = Cuts(stream.len() as u64);
    for _ in 0..20 {
        let mut pieces = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let mut end = (1 + cuts.next(24)).min(rest.len());
            while !rest.is_char_boundary(end) {
                end += 1;
            }
            pieces.push(&rest[..end]);
            rest = &rest[end..];
        }
        assert_eq!(transcript(read(model, begins, pieces.iter().copied())), whole, "{pieces:?}");
    }
    whole
}

/// The text of a stream as the vocabulary shows it: control tokens, written as they are, with the mark before them.
fn as_shown(model: &TextModel, stream: &str) -> String {
    let mut detokenizer = model.detokenizer_with_markers(&[]);
    let mut text: String = model.encode_raw(stream).into_iter().map(|id| detokenizer.push(id)).collect();
    text.push_str(&detokenizer.finish());
    text
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/answers");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    files
}

/// The parts of a stream must be what is said of it, and stand where that is written.
fn check_parts(model: &TextModel, begins: Begins, stream: &str, said: &str) {
    let form = Arc::clone(model.answer_form().unwrap());
    let is_in_messages = form.name() == "harmony";
    let AnswerParts { parts, .. } = AnswerReading { form, tools: tools().into(), begins }.parts(stream);
    let spoken = parts.iter().flat_map(|part| match &part.value {
        PartValue::Text(text) => vec![Spoken::Text { text: text.clone(), at: 0 }],
        PartValue::Thoughts(text) => vec![Spoken::Thoughts(text.clone())],
        PartValue::Call { name, arguments } if arguments.is_empty() => vec![Spoken::Call(name.clone())],
        PartValue::Call { name, arguments } => {
            vec![Spoken::Call(name.clone()), Spoken::Arguments(arguments.clone())]
        }
    });
    assert_eq!(transcript(spoken), said, "{stream:?}");
    let mut done = 0;
    for part in &parts {
        let span = part.span.clone();
        assert!(done <= span.start && span.start < span.end, "{parts:?} of {stream:?}");
        let written = stream[span.clone()].replace('\u{fdd1}', "");
        match &part.value {
            PartValue::Text(text) if !is_in_messages => assert_eq!(&written, text, "{stream:?}"),
            PartValue::Text(text) | PartValue::Thoughts(text) => {
                assert!(written.contains(text), "{written:?} {text:?}");
            }
            PartValue::Call { name, .. } => assert!(written.contains(name.as_str()), "{written:?}"),
        }
        let between: String = stream[done..span.start].replace('\u{fdd1}', "").split_whitespace().collect();
        assert_eq!(between, part.glue);
        done = span.end;
    }
}

/// Lines of a file: `form NAME`, `template …`, `control …`, `user …`, then streams: `# TITLE`, `begins …` where it
/// is not in text, `> …` as JSON strings that are joined, and what is said.
fn check(path: &Path) {
    let file = fs::read_to_string(path).unwrap();
    let (mut head, mut streams) = (String::new(), Vec::new());
    for block in file.split("\n\n") {
        if block.starts_with('#') { streams.push(block) } else { head.push_str(block) }
    }
    let of = |word: &str| -> Vec<&str> {
        head.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).collect()
    };
    let special: Vec<(&str, i32)> =
        of("control").into_iter().map(|t| (t, 3)).chain(of("user").into_iter().map(|t| (t, 4))).collect();
    let template = of("template").join("\n");
    // A marker may be a token that only a model can write, one that any text may become, or plain text.
    let as_file = model(&template, &special);
    let as_text = model(&template, &[]);
    let form = as_file.answer_form().unwrap();
    assert_eq!(vec![form.name()], of("form"), "{}", path.display());
    let mut written = head.trim_end().to_owned() + "\n";
    for stream in streams {
        let title = stream.lines().next().unwrap();
        let begins = stream.lines().find_map(|line| line.strip_prefix("begins "));
        let begins = match begins {
            None => Begins::Text,
            Some("thoughts") => Begins::Thoughts,
            Some("after thoughts") => Begins::AfterThoughts,
            Some("header") => Begins::Header,
            Some(other) => panic!("{other}"),
        };
        let inputs: Vec<&str> = stream.lines().filter(|line| line.starts_with("> ")).collect();
        let text: String =
            inputs.iter().map(|line| serde_json::from_str::<String>(&line[2..]).unwrap()).collect();
        let said = said_however_cut(&as_file, begins, &as_shown(&as_file, &text));
        assert_eq!(said_however_cut(&as_text, begins, &text), said, "{title} without special tokens");
        check_parts(&as_file, begins, &as_shown(&as_file, &text), &said);
        check_parts(&as_text, begins, &text, &said);
        let _ = writeln!(written, "\n{title}");
        match begins {
            Begins::Text => {}
            Begins::Thoughts => written.push_str("begins thoughts\n"),
            Begins::AfterThoughts => written.push_str("begins after thoughts\n"),
            Begins::Header => written.push_str("begins header\n"),
        }
        let _ = writeln!(written, "{}", inputs.join("\n"));
        written.push_str(&said);
    }
    if std::env::var_os("SAMOVAR_TEST_BLESS").is_some() {
        fs::write(path, &written).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), written, "{}", path.display());
}

#[test]
fn what_a_model_says_is_read_from_what_it_writes_however_that_is_cut() {
    files().iter().for_each(|path| check(path));
}

#[test]
fn a_family_is_told_by_its_tokens_where_its_template_says_too_little() {
    let template = "List of tools: [{{ tools | tojson }}]";
    let form = |special: &[(&str, i32)]| {
        let model = model(template, special);
        let form = model.answer_form().unwrap();
        (form.name(), form.is_known())
    };
    assert_eq!(form(&[("<|tool_call_start|>", 3), ("<|tool_call_end|>", 3)]), ("lfm2", true));
    assert_eq!(form(&[]), ("hermes", false));
}

#[test]
fn no_text_is_lost_and_none_is_made_up_whatever_comes() {
    // Pieces of all forms in any order: without a call, the text is what was written but for white space.
    let parts = [
        "<tool_call>",
        "</tool_call>",
        "\n",
        "                                                                ",
        "{\"name\": \"",
        "now",
        "nope",
        "\", \"arguments\": ",
        "{}",
        "}",
        "[",
        "]",
        "<function=",
        ">",
        "<parameter=",
        "</parameter>",
        "</function>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "<think>",
        "</think>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|tool_call_start|>",
        "(",
        ")",
        "a=1",
        ", ",
        "<|tool_call>",
        "call:",
        "<|\"|>",
        "<tool_call|>",
        "é",
        "<|channel|>",
        "<|message|>",
        "<|start|>",
        "assistant",
        "commentary to=functions.now ",
        "analysis",
        "final",
        "<|end|>",
        "\\",
        "'",
        "\"",
        ":",
        " ",
        "\u{fdd1}",
    ];
    let mut cuts = Cuts(7);
    for path in files() {
        let file = fs::read_to_string(&path).unwrap();
        let template: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix("template ")).collect();
        let model = model(&template.join("\n"), &[]);
        for _ in 0..300 {
            let n = 1 + cuts.next(30);
            let stream: String = (0..n).map(|_| parts[cuts.next(parts.len())]).collect();
            for begins in [Begins::Text, Begins::Thoughts, Begins::AfterThoughts, Begins::Header] {
                let said = said_however_cut(&model, begins, &stream);
                let names = said.lines().filter_map(|line| line.strip_prefix("call "));
                names.for_each(|name| assert!(tools().iter().any(|tool| name == format!("{:?}", tool.name))));
            }
        }
    }
}

#[test]
fn reading_takes_linear_time_and_bounded_memory() {
    let hostile = |n: usize| {
        [
            "<tool_call>".repeat(n),
            "<tool_call>{\"arguments\": ".repeat(n),
            format!("<tool_call>{{\"arguments\": {}", "[".repeat(10 * n)),
            format!("<tool_call>{{\"name\": \"now\", \"arguments\": {}", "[".repeat(10 * n)),
            "<tool_call>now<arg_key>".repeat(n),
            format!("<tool_call>write<arg_key>text</arg_key><arg_value>{}", "</arg_value>\n".repeat(n)),
            format!("<tool_call>\n<function=write>\n<parameter=text>\n{}", "</parameter>\n".repeat(n)),
            "[TOOL_CALLS]".repeat(n),
            format!("<|tool_call_start|>[now(a={}", "[".repeat(10 * n)),
            format!("<|tool_call_start|>[now(a='{}", "\\".repeat(10 * n)),
            "<|channel|>".repeat(n),
            "<|start|>assistant".repeat(n),
            " \n".repeat(10 * n),
            "<".repeat(10 * n),
        ]
    };
    for path in files() {
        let file = fs::read_to_string(&path).unwrap();
        let template: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix("template ")).collect();
        let model = model(&template.join("\n"), &[]);
        // A quadratic reader would take hours for one of them.
        for stream in hostile(40_000) {
            let chars: Vec<&str> = stream.split_inclusive(['<', '[', '\n', '{']).collect();
            let pieces = read(&model, Begins::Text, chars);
            let whole = read(&model, Begins::Text, [stream.as_str()]);
            assert_eq!(transcript(pieces), transcript(whole), "{stream:.40}");
        }
    }
}
