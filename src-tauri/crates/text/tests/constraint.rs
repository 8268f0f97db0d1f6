//! An answer that is held to a format is JSON of that shape, whatever the sampler picks.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

mod support;

use serde_json::{Value, json};
use support::{Model, load};
use text::{Constraint, ConstraintError, OutputFormat, Strictness, TextMetadata, TextModel, TokenId};

fn lenient(schema: Value) -> OutputFormat {
    OutputFormat::JsonSchema { schema, strictness: Strictness::Lenient }
}

fn strict(schema: Value) -> OutputFormat {
    OutputFormat::JsonSchema { schema, strictness: Strictness::Strict }
}

fn weather() -> OutputFormat {
    lenient(json!({
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"$ref": "#/$defs/days"}},
        "required": ["city", "days"],
        "additionalProperties": false,
        "$defs": {"days": {"type": "array", "items": {"enum": ["mon", "tue"]}, "minItems": 1, "maxItems": 3}},
    }))
}

fn constraint(model: &TextModel, format: &OutputFormat) -> Constraint {
    model.constraint(format).unwrap()
}

fn end(model: &TextModel) -> TokenId {
    (0..).find(|&id| model.is_end_of_generation(id)).expect("the test models have end tokens")
}

/// How many tokens of the document are taken.
fn n_taken(model: &TextModel, constraint: &mut Constraint, document: &str) -> (usize, usize) {
    let ids = model.encode_plain(document);
    let taken = ids.iter().take_while(|&&id| {
        let allowed = constraint.mask().unwrap().allows(id);
        assert_eq!(constraint.commit(id).is_ok(), allowed, "mask and commit agree on {id} of {document}");
        allowed
    });
    (taken.count(), ids.len())
}

fn accepts(model: &TextModel, format: &OutputFormat, document: &str) -> bool {
    let mut constraint = constraint(model, format);
    let (taken, all) = n_taken(model, &mut constraint, document);
    taken == all && constraint.mask().unwrap().allows(end(model))
}

#[test]
fn what_the_schema_allows_is_taken_and_nothing_else() {
    let model = load(Model::SmolLm2);
    let check = |document: &str, expected: bool| {
        assert_eq!(accepts(&model, &weather(), document), expected, "{document}");
    };
    check(r#"{"city": "Paris", "days": ["mon"]}"#, true);
    check(r#"{"city":"京都 é \"x\" \n","days":["mon","tue","mon"]}"#, true);
    check("{\n  \"city\": \"Rome\",\n  \"days\": [\n    \"tue\"\n  ]\n}", true);
    check(r#"{"city": "Paris", "days": []}"#, false);
    check(r#"{"city": "Paris", "days": ["wed"]}"#, false);
    check(r#"{"city": "Paris", "days": ["mon", "mon", "mon", "mon"]}"#, false);
    check(r#"{"city": "Paris"}"#, false);
    check(r#"{"city": 3, "days": ["mon"]}"#, false);
    check(r#"{"city": "Paris", "days": ["mon"], "more": 1}"#, false);
    check("Sure! {}", false);
}

/// A model whose vocabulary is the characters from space to tilde and as many special tokens; the first ends its answers.
fn model_of_characters(n_special: usize) -> TextModel {
    let characters = ('!'..='~').map(String::from).chain(["Ġ".to_owned(), "th".to_owned()]);
    let specials = (0..n_special).map(|i| format!("<|{i}|>"));
    let token_types = [vec![1; 96], vec![3; n_special]].concat();
    TextModel::new(TextMetadata {
        tokenizer_model: "gpt2".to_owned(),
        eos: Some(0),
        tokens: characters.chain(specials).collect(),
        token_types,
        merges: vec!["t h".to_owned()],
        add_bos: Some(false),
        ..TextMetadata::default()
    })
    .expect("the vocabulary is sound")
}

#[test]
fn a_vocabulary_may_have_any_number_of_tokens() {
    for n_special in 0..=64 {
        let model = model_of_characters(n_special);
        assert!(accepts(&model, &weather(), r#"{"city":"Rome","days":["tue"]}"#), "{n_special}");
        assert!(!accepts(&model, &weather(), r#"{"city":"Rome"}"#), "{n_special}");
    }
}

#[test]
fn an_answer_may_end_only_when_it_is_complete_and_then_must() {
    for which in [Model::SmolLm2, Model::Gemma3] {
        let model = load(which);
        let mut constraint = constraint(&model, &weather());
        assert!(!constraint.mask().unwrap().allows(end(&model)));
        let (taken, all) = n_taken(&model, &mut constraint, r#"{"city": "Paris", "days": ["mon"]}"#);
        assert_eq!(taken, all);
        let mask = constraint.mask().unwrap();
        let ends = (0..model.n_vocab() as u32).filter(|&id| model.is_end_of_generation(id));
        assert!(ends.clone().all(|id| mask.allows(id)), "every token that ends an answer may");
        assert!(!mask.allows(model.encode_plain("x")[0]));
        assert!(!mask.allows(model.n_vocab() as u32) && !mask.allows(u32::MAX));
        constraint.commit(end(&model)).unwrap();
        assert!(constraint.is_finished());
        assert!(constraint.mask().unwrap().n_allowed() == ends.count(), "only ends are left");
    }
}

#[test]
fn any_object_is_taken_as_a_json_object_and_nothing_that_is_none() {
    let model = load(Model::Gemma3);
    let check = |document: &str, expected: bool| {
        assert_eq!(accepts(&model, &OutputFormat::JsonObject, document), expected, "{document}");
    };
    check("{}", true);
    check(r#"{"a": [1, -2.5e3, null, true], "b": {"c": "\u0007 é 👩‍👩‍👧"}}"#, true);
    check("[1]", false);
    check("\"x\"", false);
    check("{\"a\": 01}", false);
    check("{'a': 1}", false);
}

#[test]
fn whatever_is_sampled_the_answer_is_json_of_the_schema() {
    for which in [Model::SmolLm2, Model::Gemma3] {
        let model = load(which);
        let mut state = 11u64;
        for _ in 0..8 {
            let mut constraint = constraint(&model, &weather());
            let mut bytes = Vec::new();
            for step in 0.. {
                assert!(step < 500, "the schema bounds its documents");
                let mask = constraint.mask().unwrap();
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let n = (state >> 33) as usize % mask.n_allowed();
                let id = (0..model.n_vocab() as u32).filter(|&id| mask.allows(id)).nth(n).unwrap();
                constraint.commit(id).unwrap();
                if model.is_end_of_generation(id) {
                    break;
                }
                bytes.extend_from_slice(model.token_bytes(id));
            }
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            assert!(value["city"].as_str().is_some_and(|city| city.chars().count() <= 20), "{value}");
            let days = value["days"].as_array().unwrap();
            assert!(
                (1..=3).contains(&days.len()) && days.iter().all(|day| day == "mon" || day == "tue"),
                "{value}"
            );
        }
    }
}

#[test]
fn white_space_is_a_space_or_a_line_break_with_a_nestings_indentation() {
    let model = load(Model::SmolLm2);
    let nested = lenient(json!({"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}));
    let check = |white_space: &str, expected: bool| {
        let document = format!("[{white_space}[1{white_space},2],[]]");
        assert_eq!(accepts(&model, &nested, &document), expected, "{white_space:?}");
    };
    for fits in ["", " ", "\n", "\n  ", "\n    ", "\n        ", "\n\t", "\n\t\t", "\r\n  "] {
        check(fits, true);
    }
    for too_much in ["\n\n", "  ", "\t", " \n", "\n \n", "\n         ", "\n\t\t\t", "\n\t ", "\r"] {
        check(too_much, false);
    }
    // Where nothing bounds the nesting, indentation is bounded all the same.
    assert!(accepts(
        &model,
        &OutputFormat::JsonObject,
        "{\n  \"a\": {\n    \"b\": [\n      1\n    ]\n  }\n}"
    ));
    assert!(!accepts(&model, &OutputFormat::JsonObject, &format!("{{\n{}}}", " ".repeat(100))));
}

#[test]
fn a_mask_makes_every_other_token_impossible_beyond_the_vocabulary_too() {
    let model = load(Model::SmolLm2);
    let mask = constraint(&model, &OutputFormat::JsonObject).mask().unwrap();
    let mut logits = vec![1.0; model.n_vocab() + 64];
    mask.apply(&mut logits);
    let open = model.encode_plain("{")[0] as usize;
    assert_eq!(logits[open], 1.0);
    assert_eq!(logits.iter().filter(|&&logit| logit == 1.0).count(), mask.n_allowed());
    assert!(logits[model.n_vocab()..].iter().all(|&logit| logit == f32::NEG_INFINITY));
}

#[test]
fn a_schema_that_cannot_be_held_is_refused_with_its_reason() {
    let model = load(Model::SmolLm2);
    let check = |format: &OutputFormat, pointer: &str, reason: &str| match model.constraint(format) {
        Err(ConstraintError::Schema(fault)) => {
            assert_eq!(fault.pointer, pointer, "{fault}");
            assert!(fault.message.contains(reason) && !fault.message.contains('\n'), "{fault}");
        }
        other => panic!("{other:?}"),
    };
    for format in [lenient, strict] {
        check(&format(json!([])), "#", "not an object");
        check(&format(json!({"type": "objekt"})), "#/type", "must be of null");
        check(&format(json!({"$ref": "https://example.com/schema"})), "#/$ref", "nothing at this reference");
        check(&format(json!({"enum": ["x".repeat(300_000)]})), "#", "bytes");
        check(&format(json!({"type": "string", "minLength": 5, "maxLength": 3})), "#", "no answer fits");
        check(&format(json!({"$ref": "#"})), "#", "no answer fits");
        check(&format(json!({"allOf": [{"type": "string"}, {"type": "null"}]})), "#", "no answer fits");
    }
    check(&strict(json!({"dependentRequired": {"a": ["b"]}})), "#/dependentRequired", "cannot be held to");
    check(&strict(json!({"properties": {"a/b": {"pattern": "("}}})), "#/properties/a~1b/pattern", "pattern");
    let overlapping = json!({"type": "object", "patternProperties": {"^a": {}, "b$": {}}});
    check(&strict(overlapping), "#/patternProperties", "overlap");
    let one_of = json!({"properties": {"a": {"oneOf": [{"type": "number"}, {"type": "integer"}]}}});
    check(&strict(one_of), "#/properties/a/oneOf", "anyOf");
}

#[test]
fn a_client_cannot_reach_the_librarys_own_options() {
    let model = load(Model::SmolLm2);
    let schema = json!({"type": "object", "x-guidance": {"lenient": true, "item_separator": ";"}});
    let format = lenient(schema);
    assert!(!accepts(&model, &format, r#"{"a":1;"b":2}"#));
    assert!(accepts(&model, &format, r#"{"a":1,"b":2}"#));
}

#[test]
fn a_constraint_may_go_to_the_engines_thread() {
    fn is_send<T: Send>() {}
    is_send::<Constraint>();
    is_send::<TextModel>();
    fn is_sync<T: Sync>() {}
    is_sync::<TextModel>();
}

#[test]
fn a_schema_that_was_used_before_holds_the_next_answer_from_its_beginning() {
    let model = load(Model::SmolLm2);
    let mut first = constraint(&model, &weather());
    let (taken, all) = n_taken(&model, &mut first, r#"{"city": "Par"#);
    assert_eq!(taken, all);
    let mut broken = constraint(&model, &weather());
    broken.commit(model.encode_plain("x")[0]).unwrap_err();
    for _ in 0..3 {
        assert!(accepts(&model, &weather(), r#"{"city": "Rome", "days": ["mon"]}"#));
    }
    // The one that had begun goes on.
    let (taken, all) = n_taken(&model, &mut first, r#"is", "days": ["tue"]}"#);
    assert_eq!(taken, all);
    // And another strictness, or another schema of the same words, is another one.
    let strict_one = strict(json!({"type": "object", "properties": {"a": {"pattern": "^(?=b)"}}}));
    let lenient_one = lenient(json!({"type": "object", "properties": {"a": {"pattern": "^(?=b)"}}}));
    assert!(model.constraint(&lenient_one).is_ok() && model.constraint(&strict_one).is_err());
    assert!(model.constraint(&lenient_one).is_ok());
}
