//! What clients and files say never ends the server, and never holds up others.

use serde_json::{Map, Value, json};

use crate::harness::answer::chat;
use crate::harness::gguf::with_chat_template;
use crate::harness::{Response, SMOLLM2, Samovar, Setup, model};

const CHAT: &str = "/v1/chat/completions";

/// A template with a branch for each way to go beyond every bound: the last message's content names the way.
const TEMPLATE: &str = r"{%- macro f(x) %}{{ f([x]) }}{% endmacro %}
{%- set way = messages[-1].content %}
{%- set ns = namespace(x=[1], y=[1], s='ab') %}
{%- if way == 'self' %}{% set ns.x = ns %}{{ ns }}
{%- elif way == 'self in a list' %}{% set ns.x = [ns] %}{{ ns.x | tojson }}
{%- elif way == 'self compared' %}{% set ns.x = {'a': ns} %}{{ ns.x == ns.x }}{{ [ns.x, ns.x] | unique | list }}
{%- elif way == 'deep' %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}
{%- elif way == 'deep and dropped' %}{% for i in range(100000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}
{%- elif way == 'doubled list' %}{% for i in range(80) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}
{%- elif way == 'doubled string' %}{% for i in range(80) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}
{%- elif way == 'shared' %}{% for i in range(80) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}
{%- elif way == 'shared as JSON' %}{% for i in range(80) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}
{%- elif way == 'padded' %}{{ '{:>9999999999}'.format(1) }}
{%- elif way == 'precise' %}{{ '{:.999999999}'.format(1.5) }}
{%- elif way == 'replaced' %}{% set a = 'a' * 100000 %}{{ a.replace('a', a) }}
{%- elif way == 'joined' %}{% set ns.x = ['a' * 1000000] %}{% for i in range(30) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | join }}
{%- elif way == 'indented' %}{{ range(100000) | list | tojson(indent='xxxxxxxxxx' * 1000) | length }}
{%- elif way == 'loops' %}{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}
{%- elif way == 'calls' %}{{ f(1) }}
{%- else %}{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
{%- endif %}";

fn asks(what: &str) -> Value {
    chat(what, 4)
}

fn error_of(response: &Response) -> (u16, String, String) {
    let body = response.json();
    let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    (response.status, text("code"), text("message"))
}

/// The server's size after an ordinary chat.
fn idle_bytes(server: &Samovar) -> u64 {
    assert_well(server, "the start");
    if cfg!(target_os = "linux") { server.resident_bytes() } else { 0 }
}

/// That the server has never been much larger than `idle`.
fn assert_small(server: &Samovar, idle: u64) {
    if cfg!(target_os = "linux") {
        let peak = server.peak_resident_bytes();
        assert!(peak < idle + (256 << 20), "{peak} bytes, idle {idle}");
    }
}

/// That the server still answers an ordinary chat.
fn assert_well(server: &Samovar, after: &str) {
    let answer = server.post(CHAT, &asks("Hello"));
    assert_eq!(answer.status, 200, "after {after}: {}", answer.body);
}

#[test]
fn no_chat_template_ends_or_blocks_the_server_whatever_it_does_with_values() {
    let setup = Setup::new(SMOLLM2);
    let file = with_chat_template(&model(SMOLLM2), TEMPLATE, &setup.data().join("hostile.gguf"));
    let server = setup.with("--model", &file.display().to_string()).ready();
    let idle = idle_bytes(&server);
    let mut n_refused = 0;
    for way in [
        "self",
        "self in a list",
        "self compared",
        "deep",
        "deep and dropped",
        "doubled list",
        "doubled string",
        "shared",
        "shared as JSON",
        "padded",
        "precise",
        "replaced",
        "joined",
        "indented",
        "loops",
        "calls",
    ] {
        let (status, code, message) = error_of(&server.post(CHAT, &asks(way)));
        // What holds itself is printed with an end, and some of what is deep comes through.
        if status != 200 {
            assert_eq!((status, code.as_str()), (400, "chat_template_failed"), "{way}: {message}");
            assert!(message.contains("hostile"), "{way}: the model is not named: {message}");
            n_refused += 1;
        }
        assert_well(&server, way);
    }
    assert!(n_refused >= 12, "{n_refused} of the ways go beyond every bound");
    // What the templates asked for was asked of other processes.
    assert_small(&server, idle);
}

#[test]
fn a_template_that_never_works_is_found_when_the_model_is_loaded_and_completions_work() {
    let chain = |open: &str, part: &str, n: usize, close: &str| format!("{open}{}{close}", part.repeat(n));
    for (name, template) in [
        ("not", chain("{{ ", "not ", 20_000, "x }}")),
        ("elif", chain("{% if 0 %}", "{% elif 0 %}", 20_000, "{% endif %}")),
        ("filters", chain("{{ x", "|upper", 3_000, " }}") + &chain("{{ x", ".b", 30_000, " }}")),
        ("nested", "{% for a in [1] %}".repeat(300)),
        ("unknown", "{{ messages | no_such_filter }}".to_owned()),
        ("broken", "{% if %}".to_owned()),
        ("fails", "{{ messages[0].content.no_such_method() }}".to_owned()),
    ] {
        let setup = Setup::new(SMOLLM2);
        let file = with_chat_template(&model(SMOLLM2), &template, &setup.data().join(format!("{name}.gguf")));
        let server = setup.with("--model", &file.display().to_string()).ready();
        let (status, code, message) = error_of(&server.post(CHAT, &asks("Hello")));
        assert_eq!((status, code.as_str()), (400, "chat_template_failed"), "{name}: {message}");
        assert!(message.contains(name) && message.contains("not even for one plain message"), "{message}");
        assert!(message.contains("/v1/completions"), "{message}");
        let completed = server.post("/v1/completions", &json!({"prompt": "One, two,", "max_tokens": 4}));
        assert_eq!(completed.status, 200, "{name}: {}", completed.body);
        assert!(server.stderr().contains("does not work"), "{name}: nothing was said at load");
    }
}

fn with_schema(schema: &Value) -> Value {
    let mut body = asks("Say something.");
    body["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}});
    body
}

fn row(n: usize, step: impl Fn(Value) -> Value) -> Value {
    let reference = |i: usize| json!({"$ref": format!("#/$defs/s{i}")});
    let mut definitions: Map<String, Value> =
        (0..n).map(|i| (format!("s{i}"), step(reference(i + 1)))).collect();
    definitions.insert(format!("s{n}"), json!({"type": "object"}));
    json!({"$ref": "#/$defs/s0", "$defs": definitions})
}

#[test]
fn no_schema_ends_the_server_however_deep_or_wide_it_is() {
    let server = Setup::new(SMOLLM2).ready();
    let wide: Map<String, Value> = (0..9_000).map(|i| (format!("p{i}"), json!({"type": "string"}))).collect();
    let mut nested = json!({"type": "string"});
    for _ in 0..58 {
        nested = json!({"type": "array", "items": nested, "minItems": 1});
    }
    for (name, schema) in [
        ("references", row(590, |next| next)),
        ("more references", row(5_000, |next| next)),
        (
            "properties",
            row(1_500, |next| json!({"type": "object", "properties": {"a": next}, "required": ["a"]})),
        ),
        ("lists", row(1_500, |next| json!({"type": "array", "items": next, "minItems": 1}))),
        ("alternatives", row(1_500, |next| json!({"anyOf": [next, {"type": "null"}]}))),
        ("all of", row(1_000, |next| json!({"allOf": [next, {"type": "object"}]}))),
        ("names", row(1_500, |next| json!({"type": "object", "patternProperties": {"^a": next}}))),
        ("wide", json!({"type": "object", "properties": wide})),
        ("itself", json!({"$ref": "#"})),
        ("all of itself", json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]})),
        ("nested", nested),
        (
            "pattern",
            json!({"type": "string", "pattern": format!("{}a{}", "(".repeat(3_000), ")*".repeat(3_000))}),
        ),
        ("pattern of many", json!({"type": "string", "pattern": "(((a{1000}){1000}){1000}){1000}"})),
    ] {
        let response = server.post(CHAT, &with_schema(&schema));
        let (status, _, message) = error_of(&response);
        assert!(matches!(status, 200 | 400), "{name}: {status} {message}");
        assert_well(&server, name);
    }
}

#[test]
fn no_schema_takes_the_machine_from_others_however_long_it_might_compute() {
    let server = Setup::new(SMOLLM2).ready();
    let idle = idle_bytes(&server);
    for (schema, pointer) in [
        (json!({"type": "integer", "multipleOf": 99_999_989}), "#/multipleOf"),
        (
            json!({"allOf": [{"multipleOf": 9_973}, {"multipleOf": 9_967}], "type": "integer"}),
            "#/allOf/1/multipleOf",
        ),
        (json!({"type": "number", "multipleOf": 1e-300}), "#/multipleOf"),
        (json!({"type": "string", "minLength": 1_000_000_000}), "#/minLength"),
        (json!({"type": "array", "minItems": 1e300}), "#/minItems"),
        (json!({"enum": (0..25_000).collect::<Vec<_>>()}), "#/enum"),
    ] {
        let response = server.post(CHAT, &with_schema(&schema));
        let param = response.json()["error"]["param"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (response.status, param),
            (400, format!("response_format.json_schema.schema{pointer}")),
            "{}",
            response.body
        );
    }
    assert_well(&server, "schemas");
    assert_small(&server, idle);
}
