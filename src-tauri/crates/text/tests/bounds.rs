//! What lies at the bounds on schemas and templates fits into the stacks that are set aside for it, twice over.
//!
//! A stack that overflows ends the process, so a bound that is too wide ends this test program.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

mod support;

use std::fmt::Write;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use support::{Model, load};
use text::{
    CONSTRAINT_STACK_BYTES, Chat, ChatMessage, ChatRenderer, ChatTemplate, OutputFormat, RENDER_STACK_BYTES,
    Strictness, TextError,
};

fn on_half_of<T: Send>(stack_bytes: usize, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(stack_bytes / 2).spawn_scoped(scope, work).unwrap();
        thread.join().unwrap()
    })
}

/// Definitions that refer to each other in a row, each as `step` says, `n` in all.
fn row(n: usize, step: impl Fn(Value) -> Value) -> Value {
    let reference = |i: usize| json!({"$ref": format!("#/$defs/s{i}")});
    let mut definitions: Map<String, Value> =
        (0..n).map(|i| (format!("s{i}"), step(reference(i + 1)))).collect();
    definitions.insert(format!("s{n}"), json!({"type": "object"}));
    json!({"$ref": "#/$defs/s0", "$defs": definitions})
}

/// The longest row of its kind that is within the bounds.
fn longest_row(model: &text::TextModel, step: impl Fn(Value) -> Value + Copy + Send + Sync) -> usize {
    let builds = |n: usize| {
        let format = OutputFormat::JsonSchema { schema: row(n, step), strictness: Strictness::Strict };
        let built = on_half_of(CONSTRAINT_STACK_BYTES, || model.constraint(&format));
        built.map(drop).map_err(|error| error.to_string())
    };
    let (mut fits, mut too_long) = (1, 8_192);
    builds(fits).unwrap();
    builds(too_long).unwrap_err();
    while too_long - fits > 1 {
        let n = fits.midpoint(too_long);
        if builds(n).is_ok() { fits = n } else { too_long = n }
    }
    fits
}

#[test]
fn schemas_as_deep_as_they_may_be_are_built_on_half_of_the_stack() {
    let model = Arc::new(load(Model::SmolLm2));
    // Found here: up to the bound nothing overflows, and what is beyond it is refused.
    assert!(longest_row(&model, |next| next) >= 500);
    assert!(
        longest_row(&model, |next| json!({"type": "object", "properties": {"a": next}, "required": ["a"]}))
            >= 500
    );
    assert!(
        longest_row(&model, |next| json!({"type": ["array", "null"], "items": next, "minItems": 1})) >= 500
    );
    assert!(longest_row(&model, |next| json!({"anyOf": [next, {"type": "null"}]})) >= 500);
    // Combined schemas have a bound of the library's own.
    assert!(longest_row(&model, |next| json!({"allOf": [next, {"type": "object"}]})) >= 20);
}

#[test]
fn schemas_as_wide_as_they_may_be_are_built_on_half_of_the_stack() {
    let model = Arc::new(load(Model::SmolLm2));
    let wide = |n: usize| -> Value {
        let properties: Map<String, Value> =
            (0..n).map(|i| (format!("p{i}"), json!({"type": "string"}))).collect();
        json!({"type": "object", "properties": properties, "additionalProperties": false})
    };
    let alternatives = |n: usize| -> Value {
        let alternative = |i: usize| json!({"type": "object", "properties": {format!("p{i}"): {}}});
        json!({"anyOf": (0..n).map(alternative).collect::<Vec<_>>()})
    };
    let values = |n: usize| json!({"enum": (0..n).map(|i| format!("v{i}")).collect::<Vec<_>>()});
    let items = |n: usize| json!({"type": "array", "prefixItems": vec![json!({"type": "null"}); n]});
    let pattern =
        |n: usize| json!({"type": "string", "pattern": format!("^{}a{}$", "(".repeat(n), ")*".repeat(n))});
    for schema in
        [wide(2_000), alternatives(2_000), values(15_000), items(5_000), pattern(100), pattern(4_000)]
    {
        for strictness in [Strictness::Lenient, Strictness::Strict] {
            let format = OutputFormat::JsonSchema { schema: schema.clone(), strictness };
            // Whether it is taken or refused, the process goes on; what is taken can be matched on any thread.
            let built = on_half_of(CONSTRAINT_STACK_BYTES, || model.constraint(&format));
            if let Ok(mut constraint) = built {
                on_half_of(4 << 20, move || {
                    for _ in 0..200 {
                        let Ok(mask) = constraint.mask() else { return };
                        let Some(id) = mask.allowed().last() else { return };
                        if constraint.commit(id).is_err() || constraint.is_finished() {
                            return;
                        }
                    }
                });
            }
        }
    }
    let two_thousand = OutputFormat::JsonSchema { schema: wide(2_000), strictness: Strictness::Strict };
    let mut built = on_half_of(CONSTRAINT_STACK_BYTES, || model.constraint(&two_thousand)).unwrap();
    for id in model.encode_plain(r#"{"p7": "a", "p1999": "b"}"#) {
        built.mask().unwrap();
        built.commit(id).unwrap();
    }
    assert!(built.is_finished(), "two thousand optional properties pass");
}

#[test]
fn patterns_made_to_take_long_are_refused_or_matched_within_bounds() {
    let model = Arc::new(load(Model::SmolLm2));
    let optional = |n: usize| format!("^{}{}$", "a?".repeat(n), "a".repeat(n));
    for pattern in [
        r"^(?:a|b)*a(?:a|b){24}$".to_owned(),
        r"^(?:.*a.{18})*$".to_owned(),
        r"^(?:a*)*b$".to_owned(),
        r"^(?:(?:a{1,1000}){1,1000}){1,1000}$".to_owned(),
        r"^(?:\p{L}{1,500}\p{N}{1,500}){1,500}$".to_owned(),
        r"^[^a]*a{60000}$".to_owned(),
        r"^a{4294967295}$".to_owned(),
        r"(?:a|aa|aaa|aaaa)*(?:b|bb)*(?:.|..)*c{1000}".to_owned(),
        optional(2_000),
        "(?:a{1,1000}b{1,1000}){1,1000}".repeat(500),
        (0..3_000).map(|i| format!("w{i}")).collect::<Vec<_>>().join("|"),
    ] {
        for strictness in [Strictness::Lenient, Strictness::Strict] {
            let schema = json!({"type": "array", "items": {"type": "string", "pattern": pattern}});
            let format = OutputFormat::JsonSchema { schema, strictness };
            let built = on_half_of(CONSTRAINT_STACK_BYTES, || model.constraint(&format));
            // Whether it is taken, refused, or given up in the middle of an answer: it comes to an end.
            let Ok(mut constraint) = built else { continue };
            on_half_of(4 << 20, move || {
                for step in 0..60 {
                    let Ok(mask) = constraint.mask() else { return };
                    let allowed: Vec<u32> = mask.allowed().collect();
                    let Some(id) = allowed.get(step * 31 % allowed.len().max(1)) else { return };
                    if constraint.commit(*id).is_err() || constraint.is_finished() {
                        return;
                    }
                }
            });
        }
    }
}

fn render(source: String) -> Result<String, TextError> {
    let template = ChatTemplate { source, ..ChatTemplate::default() };
    let chat = Chat { messages: vec![ChatMessage::new("user", "x")], ..Chat::default() };
    on_half_of(RENDER_STACK_BYTES, || {
        Ok(ChatRenderer::new(&template)?.render(&chat, SystemTime::UNIX_EPOCH)?.plain())
    })
}

#[test]
fn templates_as_deep_as_they_may_be_are_compiled_on_half_of_the_stack() {
    // Beyond the bound each of these is refused, so the longest that is not is at it.
    for (open, part, close) in [
        ("{{ ", "not ", "x }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ x", ".b", " }}"),
        ("{{ x", "[0]", " }}"),
        ("{{ x", ".items", " }}"),
        ("{{ x", " + 'a'|safe", " }}"),
        ("{{ x", " % x", " }}"),
        ("{{ x", "()", " }}"),
        ("{{ 'a'", "|upper", " }}"),
        ("{{ 1", " ~ 1", " }}"),
        ("{{ 1", " + 1", " }}"),
        ("{{ 1", " ** 1", " }}"),
        ("{{ 1", " and 1", " }}"),
        ("{{ 1", " is defined", " }}"),
        ("{{ ", "1 if 1 else ", "1 }}"),
        ("{% if 0 %}", "{% elif 0 %}", "{% endif %}"),
        ("", "{% if 1 %}", ""),
        ("{{ ", "[", " }}"),
    ] {
        let source = |n: usize| format!("{open}{}{close}", part.repeat(n));
        let is_refused = |n: usize| matches!(render(source(n)), Err(TextError::Template(why)) if why.starts_with("it has more") || why.contains("tags has more"));
        assert!(is_refused(5_000), "{part}");
        let longest = (1..=40).rev().map(|n| n * 100).find(|&n| !is_refused(n)).unwrap();
        assert!(longest >= 800, "{part}: {longest}");
    }
}

#[test]
fn an_ordinary_long_template_is_far_from_the_bounds() {
    let mut source = String::new();
    for i in 0..300 {
        write!(
            source,
            "{{% if messages[0].role == 'r{i}' and tools is defined and not x.y[{i}] | length > 3 %}}"
        )
        .unwrap();
        writeln!(source, "{{{{ '<|im_start|>' ~ messages[0]['content'] ~ '<|im_end|>' }}}}{{% endif %}}")
            .unwrap();
    }
    assert!(source.len() > 30_000);
    render(source).unwrap();
}
