//! The schemas that clients' libraries write for ordinary types are taken, and whatever is sampled under one of them
//! validates. `src-tauri/dev/schemas/` says where they come from.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

mod support;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Value, json};
use support::{Model, load};
use text::{OutputFormat, Strictness, TextModel};

/// Schemas of ordinary types: who wrote it, what it is called, the schema.
fn schemas() -> Vec<(String, Value)> {
    let lines = include_str!("data/schemas.jsonl").lines();
    let parsed = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let name =
        |line: &Value| format!("{} {}", line["from"].as_str().unwrap(), line["name"].as_str().unwrap());
    parsed.map(|line| (name(&line), line["schema"].clone())).collect()
}

struct Walk<'m> {
    model: &'m TextModel,
    state: u64,
}

impl Walk<'_> {
    fn random(&mut self, n: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % n
    }

    /// A document under `format` that is sampled at random, or nothing where it does not come to an end. From `patience`
    /// tokens on it takes what ends soonest.
    fn document(&mut self, format: &OutputFormat, patience: usize) -> Option<String> {
        let mut constraint = self.model.constraint(format).unwrap();
        let mut bytes = Vec::new();
        for step in 0..20 * patience {
            let mask = constraint.mask().unwrap();
            let ids: Vec<u32> = mask.allowed().collect();
            let ending = |id: &&u32| {
                matches!(self.model.token_bytes(**id), b"\"" | b"}" | b"]")
                    || self.model.is_end_of_generation(**id)
            };
            let endings: Vec<u32> = ids.iter().filter(ending).copied().collect();
            // Among single characters the one that a form waits for, such as an `@`, comes soon.
            let is_short = |id: &&u32| self.model.token_bytes(**id).len() == 1;
            let short: Vec<u32> = ids.iter().filter(is_short).copied().collect();
            let wanted = [&endings, &short].into_iter().find(|ids| step > patience && !ids.is_empty());
            let from = wanted.unwrap_or(&ids);
            let id = from[self.random(from.len())];
            constraint.commit(id).unwrap();
            if self.model.is_end_of_generation(id) {
                return Some(String::from_utf8(bytes).unwrap());
            }
            bytes.extend_from_slice(self.model.token_bytes(id));
            if constraint.is_finished() {
                return Some(String::from_utf8(bytes).unwrap());
            }
        }
        None
    }
}

/// A schema with `nullable`, which is OpenAPI's word, in those of JSON Schema.
fn without_nullable(schema: &Value) -> Value {
    match schema {
        Value::Object(object) => {
            let rest = object.iter().filter(|(keyword, value)| *keyword != "nullable" || !value.is_boolean());
            let rest: Value =
                rest.map(|(keyword, value)| (keyword.clone(), without_nullable(value))).collect();
            let may_be_null = object.get("nullable") == Some(&Value::Bool(true));
            if may_be_null { json!({"anyOf": [rest, {"type": "null"}]}) } else { rest }
        }
        Value::Array(list) => list.iter().map(without_nullable).collect(),
        other => other.clone(),
    }
}

/// What a validator finds wrong with a document; formats are looked at where the schema names known ones.
fn complaint(validator: &Validator, text: &str) -> Option<String> {
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        // JSON has no largest number, and the validator has one.
        Err(error) if error.to_string().starts_with("number out of range") => return None,
        Err(error) => return Some(format!("{error} in {text}")),
    };
    let mut errors = validator.iter_errors(&document).filter(|error| !is_multiple_as_written(error, text));
    errors.next().map(|error| format!("{error} in {text}"))
}

/// Whether a complaint is about a whole number of the document's own that is the multiple that it must be: of one that
/// has more digits than a float the validator sees another one.
fn is_multiple_as_written(error: &ValidationError<'_>, text: &str) -> bool {
    let ValidationErrorKind::MultipleOf { multiple_of } = error.kind() else { return false };
    let name = error.instance_path().to_string();
    let key = format!("{:?}", name.trim_start_matches('/'));
    let Some((_, value)) = text.split_once(&key) else { return false };
    let value = value.trim_start().trim_start_matches(':').trim_start();
    let digits: Vec<u64> =
        value.bytes().take_while(u8::is_ascii_digit).map(|b| u64::from(b - b'0')).collect();
    let is_whole = multiple_of.fract() == 0.0 && !value[digits.len()..].starts_with(['.', 'e', 'E']);
    let divisor = *multiple_of as u64;
    is_whole && digits.len() > 15 && digits.iter().fold(0, |rest, digit| (rest * 10 + digit) % divisor) == 0
}

#[test]
fn schemas_of_ordinary_types_are_taken_and_what_is_sampled_validates() {
    let model = load(Model::SmolLm2);
    let mut walk = Walk { model: &model, state: 0x9e37_79b9_7f4a_7c15 };
    let schemas = schemas();
    assert!(schemas.len() >= 70);
    for (name, schema) in &schemas {
        let validator = jsonschema::options().build(&without_nullable(schema)).unwrap();
        let format = OutputFormat::JsonSchema { schema: schema.clone(), strictness: Strictness::Lenient };
        let documents: Vec<String> = (0..6).filter_map(|_| walk.document(&format, 150)).collect();
        assert!(!documents.is_empty(), "{name}: no document came to an end");
        for document in &documents {
            // What is passed over in a lenient schema: look-ahead, and lists without equal items.
            let is_ours =
                |complaint: &String| !name.contains("password") && !complaint.contains("non-unique");
            if let Some(complaint) = complaint(&validator, document).filter(is_ours) {
                panic!("{name}: {complaint}");
            }
        }
    }
}

#[test]
fn strict_schemas_are_taken_unless_they_say_what_cannot_be_held_to() {
    let model = load(Model::SmolLm2);
    let mut refused = Vec::new();
    for (name, schema) in schemas() {
        let format = OutputFormat::JsonSchema { schema, strictness: Strictness::Strict };
        if let Err(error) = model.constraint(&format) {
            refused.push(format!("{name}: {error}"));
        }
    }
    assert_eq!(
        refused,
        [
            "pydantic tags: the schema cannot be used: 'uniqueItems' cannot be held to (at #/properties/tags/uniqueItems)",
            "zod password: the schema cannot be used: look-ahead in a pattern cannot be held to (at #/pattern)",
        ]
    );
}

#[test]
fn numbers_at_and_beyond_the_ends_of_their_ranges_stay_within_them() {
    let model = load(Model::SmolLm2);
    let mut walk = Walk { model: &model, state: 7 };
    for schema in [
        json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX}),
        json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
        json!({"type": "integer", "minimum": 1_234_567_890_123_456_789_i64}),
        json!({"type": "integer", "maximum": -1_234_567_890_123_456_789_i64}),
        json!({"type": "integer", "exclusiveMinimum": 9_007_199_254_740_993_i64, "maximum": 9_007_199_254_741_000_i64}),
        json!({"type": "integer", "minimum": -9_223_372_036_854_775_000_i64, "maximum": -9_223_372_036_854_770_000_i64}),
        json!({"type": "integer", "minimum": 999_999_999_999_999_999_i64}),
        json!({"type": "integer", "exclusiveMaximum": 0}),
        json!({"type": "number", "minimum": -1e300, "maximum": 1e-9}),
        json!({"type": "number", "exclusiveMinimum": 0, "maximum": 0.1}),
        json!({"type": "number", "multipleOf": 0.25, "minimum": -3, "maximum": 3}),
        json!({"type": ["integer", "null"], "multipleOf": 5, "minimum": 10, "maximum": 1_000_000}),
        json!({"enum": [9_007_199_254_740_992_i64, 0.1, -7, 1e-7]}),
        json!({"const": -9_007_199_254_740_991_i64}),
    ] {
        let validator = jsonschema::options().build(&schema).unwrap();
        let format = OutputFormat::JsonSchema { schema: schema.clone(), strictness: Strictness::Strict };
        let documents: Vec<String> = (0..20).filter_map(|_| walk.document(&format, 24)).collect();
        assert!(!documents.is_empty(), "{schema}: no document came to an end");
        for document in &documents {
            assert_eq!(complaint(&validator, document), None, "{schema}");
        }
    }
}
