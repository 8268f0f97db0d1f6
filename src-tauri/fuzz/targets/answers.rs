//! An answer of arbitrary text in a family's form: what it says does not depend on how it is cut, and names no function
//! but those offered. And one of arbitrary tokens that is held to its rules: read back, it is a call.
//!
//! ```text
//! form (and from 128 on the second), how it begins, where it is cut, rest      the rest is the text, or chooses the tokens
//! ```

#![no_main]

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use text::{AnswerReader, AnswerRules, Begins, Calls, Most, Spoken, TextMetadata, TextModel, TokenId, Tool};

const N_TOKENS: usize = 400;
const END: TokenId = 256;
const BEGINS: [Begins; 4] = [Begins::Text, Begins::Thoughts, Begins::AfterThoughts, Begins::Header];

/// As much of templates as tells their families, and the markers that are tokens of their own.
const FORMS: &[(&str, &[&str])] = &[
    ("<tool_call> <think></think>", &["<tool_call>", "</tool_call>", "<think>", "</think>"]),
    ("<tool_call> <function=f> <parameter=p> <think></think>", &["<tool_call>", "</tool_call>"]),
    (
        "<tool_call><arg_key><arg_value> <think></think>",
        &["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
    ),
    ("Environment: ipython <|python_tag|> \"parameters\"", &["<|python_tag|>"]),
    ("[TOOL_CALLS] [ARGS] [THINK][/THINK]", &["[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]"]),
    ("[TOOL_CALLS]", &["[TOOL_CALLS]"]),
    (
        "<|tool_call>call: <tool_call|> <|channel>thought <channel|>",
        &["<|tool_call>", "<tool_call|>", "<|channel>", "<channel|>", "<|\"|>"],
    ),
    ("<|tool_call_start|> <think></think>", &["<|tool_call_start|>", "<|tool_call_end|>"]),
    (
        "<|channel|> <|message|> functions.",
        &["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"],
    ),
    ("<|tool_call|>", &["<|tool_call|>"]),
    (
        "<｜tool▁call▁begin｜><｜tool▁sep｜> <think></think>",
        &["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"],
    ),
    ("<minimax:tool_call> <invoke name=", &["<minimax:tool_call>", "</minimax:tool_call>"]),
    ("seed:tool_call <function=", &["<seed:tool_call>", "</seed:tool_call>"]),
    ("<function name= <param name= <think></think>", &["<think>", "</think>"]),
    ("<|tools_prefix|> <|tools_suffix|>", &["<|tools_prefix|>", "<|tools_suffix|>"]),
    ("<TOOLCALL> <think></think>", &["<TOOLCALL>"]),
    ("<tool_calls>[", &["<tool_calls>"]),
    ("start_tag => `<function`", &["<function="]),
];

/// Vocabularies of all bytes, an end, and the markers: control tokens, then ordinary text.
static MODELS: LazyLock<Vec<[TextModel; 2]>> = LazyLock::new(|| {
    FORMS.iter().map(|(template, markers)| [model(template, markers), model(template, &[])]).collect()
});

fn model(template: &str, markers: &[&str]) -> TextModel {
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let words = ["</s>"].into_iter().chain(markers.iter().copied()).map(str::to_owned);
    let tokens: Vec<String> = bytes.chain(words).collect();
    let n_tokens = tokens.len();
    let metadata = TextMetadata {
        tokenizer_model: "llama".into(),
        token_types: (0..n_tokens).map(|i| if i < 256 { 6 } else { 3 }).collect(),
        scores: vec![0.0; n_tokens],
        eos: Some(END),
        tokens,
        chat_template: Some(template.to_owned()),
        ..TextMetadata::default()
    };
    TextModel::new(metadata).expect("a vocabulary")
}

fn tools() -> Vec<Tool> {
    let parameters = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 9},
            "unit": {"enum": ["a", "b"]},
            "days": {"type": "integer", "minimum": 0, "maximum": 9},
            "where": {"type": "object", "properties": {"x": {"type": "boolean"}}, "additionalProperties": false},
        },
        "required": ["city", "days"],
        "additionalProperties": false,
    });
    let tool =
        |name: &str, parameters| Tool { name: name.into(), parameters, strict: true, ..Tool::default() };
    vec![tool("get_weather", Some(parameters)), tool("now", None)]
}

/// What is said: its kinds, each joined with its neighbours.
fn said<'a>(model: &TextModel, begins: Begins, pieces: impl Iterator<Item = &'a str>) -> Vec<(u8, String)> {
    let form = Arc::clone(model.answer_form().expect("a template"));
    let mut reader = AnswerReader::new(form, tools(), begins);
    let mut spoken: Vec<Spoken> = pieces.flat_map(|piece| reader.push(piece)).collect();
    spoken.extend(reader.finish());
    let mut joined: Vec<(u8, String)> = Vec::new();
    for piece in spoken {
        let (kind, text) = match piece {
            Spoken::Text { text, .. } => (0, text),
            Spoken::Thoughts(text) => (1, text),
            Spoken::Arguments(text) => (2, text),
            Spoken::Call(name) => (3, name),
        };
        match joined.last_mut() {
            Some((last, before)) if *last == kind && kind != 3 => before.push_str(&text),
            _ => joined.push((kind, text)),
        }
    }
    joined
}

/// The text in pieces of one to `most` characters.
fn cut(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let mut turn = 0;
    std::iter::from_fn(move || {
        turn += 1;
        let n = 1 + turn * 7 % most;
        let end = rest.char_indices().nth(n).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// An answer that must be a call, of tokens that `choices` choose; none where it is not complete in time.
fn held(model: &TextModel, begins: Begins, most: Most, choices: &[u8]) -> Option<String> {
    let form = Arc::clone(model.answer_form().expect("a template"));
    let most_thoughts = choices.first().filter(|byte| **byte < 64).map(|byte| usize::from(*byte));
    let rules =
        AnswerRules { form, begins, tools: tools(), calls: Calls::Must, most, format: None, most_thoughts };
    let mut constraint = model.answer_constraint(&rules).expect("a grammar").expect("a call is wanted");
    let mut detokenizer = model.detokenizer_with_markers(&[]);
    let mut text = String::new();
    for step in 0..N_TOKENS {
        let mask = constraint.mask().expect("something may come");
        assert!(mask.n_allowed() > 0, "nothing may come after {text:?}");
        let turn = usize::from(choices[step % choices.len()]) % mask.n_allowed();
        let id = mask.allowed().nth(turn).expect("one of them");
        if id == END {
            text.push_str(&detokenizer.finish());
            return Some(text);
        }
        text.push_str(&detokenizer.push(id));
        constraint.commit(id).expect("it is allowed");
    }
    None
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(([form, begins, most], rest)) = bytes.split_first_chunk() else { return };
    let models = &MODELS[usize::from(form & 127) % FORMS.len()];
    let begins = BEGINS[usize::from(*begins) % BEGINS.len()];
    match form & 128 {
        0 => read_however_cut(models, begins, usize::from(*most), &String::from_utf8_lossy(rest)),
        _ if rest.is_empty() => {}
        _ => read_what_is_held(models, begins, usize::from(*most), rest),
    }
});

fn read_however_cut(models: &[TextModel; 2], begins: Begins, most: usize, text: &str) {
    for model in models {
        let whole = said(model, begins, [text].into_iter());
        assert_eq!(said(model, begins, cut(text, 1 + most % 32)), whole, "{text:?}");
        for (kind, name) in &whole {
            assert!(*kind != 3 || ["get_weather", "now"].contains(&name.as_str()), "{name}");
        }
    }
}

fn read_what_is_held(models: &[TextModel; 2], begins: Begins, most: usize, choices: &[u8]) {
    let one = if most % 2 == 0 { Most::One } else { Most::Any };
    // What channels think may have their markers in it, where these are text.
    let is_harmony = models[0].answer_form().expect("a template").name() == "harmony";
    let model = if is_harmony { &models[0] } else { &models[most / 2 % 2] };
    let begins = match begins {
        _ if is_harmony => Begins::Header,
        Begins::Header => Begins::Text,
        Begins::Thoughts if !model.answer_form().expect("a template").thinks() => Begins::Text,
        begins => begins,
    };
    let Some(text) = held(model, begins, one, choices) else { return };
    let said = said(model, begins, [text.as_str()].into_iter());
    let n_calls = said.iter().filter(|(kind, _)| *kind == 3).count();
    assert!(n_calls == 1 || (n_calls > 1 && one == Most::Any), "{said:?} of {text:?}");
    assert!(said.iter().all(|(kind, _)| *kind != 0), "{said:?} of {text:?}");
    for call in said.windows(2).filter(|pair| pair[0].0 == 3) {
        let arguments: Value =
            serde_json::from_str(&call[1].1).unwrap_or_else(|e| panic!("{e}: {said:?} of {text:?}"));
        let of = |name: &str| arguments.get(name);
        let fits = match call[0].1.as_str() {
            "get_weather" => {
                of("city").and_then(Value::as_str).is_some_and(|text| text.chars().count() <= 9)
                    && of("days").and_then(Value::as_u64).is_some_and(|n| n <= 9)
                    && of("unit").is_none_or(|unit| ["a", "b"].contains(&unit.as_str().unwrap_or_default()))
                    && of("where").is_none_or(Value::is_object)
            }
            _ => arguments == json!({}),
        };
        assert!(fits, "{arguments} of {text:?}");
    }
}
