//! What is made of clients' schemas.

use serde_json::{Value, json};

use super::{Strictness, read};

fn lenient(schema: Value) -> String {
    read(&schema, Strictness::Lenient).map_or_else(|fault| fault.to_string(), |read| read.schema.to_string())
}

fn strict(schema: Value) -> String {
    read(&schema, Strictness::Strict).map_or_else(|fault| fault.to_string(), |read| read.schema.to_string())
}

#[test]
fn a_formats_unknown_name_is_an_annotation_however_strict_the_schema_is() {
    for name in ["uuid4", "path", "password", "binary", "ipv4network", "json-string", "decimal", "float", ""]
    {
        let schema = json!({"type": "string", "format": name});
        assert_eq!(strict(schema.clone()), r#"{"type":"string"}"#, "{name}");
        assert_eq!(lenient(schema), r#"{"type":"string"}"#, "{name}");
    }
    for name in ["date-time", "uuid", "ipv6", "uri"] {
        assert_eq!(strict(json!({"format": name})), format!(r#"{{"format":"{name}"}}"#));
    }
}

#[test]
fn what_cannot_be_held_to_is_passed_over_or_refused_where_it_stands() {
    for (keyword, value) in [
        ("uniqueItems", json!(true)),
        ("contains", json!({"type": "string"})),
        ("not", json!({"type": "null"})),
        ("if", json!({})),
        ("dependentRequired", json!({"a": ["b"]})),
        ("unevaluatedItems", json!(false)),
        ("propertyNames", json!({"maxLength": 3})),
        ("multipleOf", json!(99_999_989)),
        ("multipleOf", json!(1e-300)),
        ("pattern", json!("(")),
        ("pattern", json!(r"^(?=.*\d)[a-z\d]+$")),
        ("pattern", json!(r"(a)\1")),
    ] {
        let schema = json!({"properties": {"a": {"type": "array", keyword: value, "title": "A"}}});
        let fault = strict(schema.clone());
        assert!(fault.ends_with(&format!("(at #/properties/a/{keyword})")), "{fault}");
        let read = lenient(schema);
        assert!(read.starts_with(r#"{"properties":{"a":{"type":"array""#), "{read}");
    }
    assert_eq!(
        lenient(json!({"pattern": r"^(?=.*\d)[a-z\d]+$"})),
        r#"{"pattern":"^[a-z\\d]+$"}"#,
        "look-ahead only takes away"
    );
    assert_eq!(strict(json!({"type": "array", "uniqueItems": false})), r#"{"type":"array"}"#);
}

#[test]
fn patterns_of_pydantic_and_zod_are_held_to_in_other_words() {
    let decimal = json!({"pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"});
    assert_eq!(strict(decimal), r#"{"pattern":"^[+-]?(?:\\d+\\.?\\d*|\\.\\d+)$"}"#);
    let email = json!({"pattern": r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"});
    assert!(strict(email).starts_with(r#"{"pattern":"#));
}

#[test]
fn references_are_decoded_and_read_once() {
    let schema = json!({
        "type": "array",
        "items": {"$ref": "#/$defs/a~1b"},
        "contains": true,
        "$defs": {"a/b": {"properties": {"x": {"$ref": "#/definitions/c%20d"}, "y": {"$ref": "#/$defs/a~1b"}}}},
        "definitions": {"c d": {"type": "null", "$anchor": "here"}},
    });
    assert_eq!(
        lenient(schema),
        r##"{"type":"array","items":{"$ref":"#/$defs/d0"},"$defs":{"d1":{"type":"null"},"d0":{"properties":{"x":{"$ref":"#/$defs/d1"},"y":{"$ref":"#/$defs/d0"}}}}}"##
    );
    let anchored = json!({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "type": "null"}}});
    assert_eq!(strict(anchored), r##"{"$ref":"#/$defs/d0","$defs":{"d0":{"type":"null"}}}"##);
    let named =
        json!({"$id": "https://a.b/c", "items": {"$ref": "https://a.b/c#/$defs/x"}, "$defs": {"x": true}});
    assert_eq!(strict(named), r##"{"items":{"$ref":"#/$defs/d0"},"$defs":{"d0":true}}"##);
    for nowhere in ["#/$defs/b", "other.json", "#a", "https://example.com/#/x", "#/$defs/a/9"] {
        let fault = lenient(json!({"$ref": nowhere, "$defs": {"a": []}}));
        assert!(fault.ends_with("(at #/$ref)"), "{nowhere}: {fault}");
    }
}

#[test]
fn numbers_are_forced_as_they_are_written_or_refused() {
    for (value, pointer) in [
        (json!({"const": 9_007_199_254_740_993_u64}), "#/const"),
        (json!({"enum": [1, 1_234_567_890_123_456_789_i64]}), "#/enum/1"),
        (json!({"const": {"a": [-9_007_199_254_740_993_i64]}}), "#/const/a/0"),
        (json!({"const": 1e300}), "#/const"),
        (json!({"enum": [u64::MAX]}), "#/enum/0"),
        (json!({"const": 5e-324}), "#/const"),
    ] {
        for read in [strict, lenient] {
            let fault = read(value.clone());
            assert!(fault.ends_with(&format!("cannot be held to exactly (at {pointer})")), "{fault}");
        }
    }
    let exact = json!({"enum": [9_007_199_254_740_992_u64, -9_007_199_254_740_992_i64, 0, 0.5, -1e-7]});
    assert!(strict(exact).starts_with(r#"{"enum":"#));
}

#[test]
fn bounds_move_inwards_to_what_can_be_held_to() {
    let bounds = |more: Value| {
        let mut schema = json!({"type": "integer"});
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let read = read(&schema, Strictness::Strict).map(|read| read.schema);
        let read = read.unwrap_or_else(|fault| json!(fault.to_string()));
        (read["minimum"].as_f64(), read["maximum"].as_f64(), read["exclusiveMaximum"].as_f64())
    };
    let largest = 9_223_372_036_854_774_784.0;
    assert_eq!(bounds(json!({"minimum": i64::MIN, "maximum": i64::MAX})), (None, None, None));
    assert_eq!(bounds(json!({"minimum": 0, "maximum": u64::MAX})), (Some(0.0), None, None));
    assert_eq!(
        bounds(json!({"minimum": 1_234_567_890_123_456_789_i64})),
        (Some(1_234_567_890_123_457_024.0), Some(largest), None),
        "the next floating-point number inwards, and as many digits as can be counted"
    );
    // 2^53 + 1 is no floating-point number; 2^53 is the next inwards.
    assert_eq!(bounds(json!({"maximum": 9_007_199_254_740_993_i64})).1, Some(9_007_199_254_740_992.0));
    assert_eq!(bounds(json!({"minimum": 9_007_199_254_740_993_i64})).0, Some(9_007_199_254_740_994.0));
    assert_eq!(bounds(json!({"minimum": 1.5, "exclusiveMaximum": 7.0})), (Some(2.0), None, Some(7.0)));
    assert_eq!(
        strict(json!({"type": "integer", "minimum": 1e19})),
        "numbers beyond 1e+19 cannot be held to (at #/minimum)"
    );
    assert_eq!(lenient(json!({"maximum": 3, "exclusiveMaximum": true})), r#"{"maximum":2.999999997}"#);
}

#[test]
fn names_of_properties_are_held_to_where_they_are_listed_or_have_a_pattern() {
    let dictionary = |names: Value| json!({"type": "object", "propertyNames": names, "additionalProperties": {"type": "null"}});
    assert_eq!(
        strict(dictionary(json!({"enum": ["a", "b"]}))),
        concat!(
            r##"{"type":"object","additionalProperties":false,"##,
            r##""properties":{"a":{"$ref":"#/$defs/v0"},"b":{"$ref":"#/$defs/v0"}},"$defs":{"v0":{"type":"null"}}}"##
        )
    );
    assert_eq!(
        strict(dictionary(json!({"pattern": "^x"}))),
        r#"{"type":"object","additionalProperties":false,"patternProperties":{"^x":{"type":"null"}}}"#
    );
    assert_eq!(
        strict(dictionary(json!({"type": "string"}))),
        r#"{"type":"object","additionalProperties":{"type":"null"}}"#
    );
}

#[test]
fn values_are_compared_and_not_their_spellings() {
    assert_eq!(strict(json!({"minItems": 2.0, "maxLength": 4e1})), r#"{"minItems":2,"maxLength":40}"#);
    for wrong in [json!(-1), json!(1.5), json!("2"), json!(null)] {
        assert!(strict(json!({"minItems": wrong})).ends_with("(at #/minItems)"));
    }
    assert_eq!(
        strict(json!({"type": "string", "nullable": true})),
        r#"{"anyOf":[{"type":"string"},{"type":"null"}]}"#
    );
}

#[test]
fn what_is_too_deep_too_wide_or_too_much_is_refused_with_its_place() {
    let mut deep = json!({"type": "null"});
    for _ in 0..100 {
        deep = json!({"anyOf": [deep]});
    }
    assert!(strict(deep).starts_with(r#"{"anyOf""#));
    let definitions: serde_json::Map<String, Value> =
        (0..4_000).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}))).collect();
    let row = json!({"$ref": "#/$defs/d0", "$defs": definitions});
    let on_its_stack = std::thread::Builder::new().stack_size(crate::CONSTRAINT_STACK_BYTES);
    let row = on_its_stack.spawn(move || lenient(row)).unwrap().join().unwrap();
    assert!(row.contains("nested more than") && row.contains("(at #/$defs/"), "{row}");
    let many: serde_json::Map<String, Value> = (0..3_000).map(|i| (format!("p{i}"), json!(true))).collect();
    assert!(lenient(json!({"properties": many})).ends_with("(at #/properties)"));
    let values: Vec<Value> = (0..30_000).map(Value::from).collect();
    assert!(lenient(json!({"enum": values})).contains("parts"));
}

#[test]
fn what_is_said_of_listed_names_is_said_once() {
    let names: Vec<String> = (0..500).map(|i| format!("n{i}")).collect();
    let dictionary = |of: Value| json!({"propertyNames": {"enum": names}, "additionalProperties": of});
    let values: Vec<String> = (0..5_000).map(|i| format!("v{i}")).collect();
    let schema = dictionary(dictionary(json!({"enum": values})));
    let (n_bytes, read) = (schema.to_string().len(), lenient(schema));
    assert!(read.starts_with('{') && read.len() < 3 * n_bytes, "{n_bytes} bytes became {}", read.len());
}

#[test]
fn what_combining_schemas_would_make_is_bounded_before_it_is_made() {
    let big = json!({"enum": (0..7_000).map(|i| format!("v{i}")).collect::<Vec<_>>()});
    let object = json!({"type": "object", "properties": {"p": big}});
    let with = |keyword: &str, value: Value| {
        let mut schema = object.clone();
        schema.as_object_mut().unwrap().insert(keyword.to_owned(), value);
        schema
    };
    let list = |n: usize, of: &dyn Fn(usize) -> Value| Value::from((0..n).map(of).collect::<Vec<_>>());
    let lengths = list(30, &|i| json!({"minLength": i}));
    let pattern = "x".repeat(15_000);
    let wide: serde_json::Map<String, Value> = (0..2_000).map(|i| (format!("p{i}"), json!(true))).collect();
    for schema in [
        json!({"prefixItems": list(2_500, &|_| json!({"$ref": "#/$defs/o", "type": "object"})), "$defs": {"o": object}}),
        with("anyOf", list(2_000, &|i| json!({"required": [format!("r{i}")]}))),
        with("oneOf", list(2_000, &|i| json!({"properties": {"q": {"const": i.to_string()}}}))),
        json!({"allOf": [{"anyOf": lengths}, {"anyOf": lengths}, {"anyOf": lengths}, {"pattern": pattern}]}),
        json!({"type": "string", "pattern": pattern, "enum": list(12_000, &|i| json!(i.to_string()))}),
        json!({"allOf": [{"properties": wide}, {"additionalProperties": big}]}),
        json!({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "allOf": [{"$ref": "#/$defs/same"}],
            "$defs": {"same": {"properties": {"a": {"$ref": "#/$defs/same"}, "b": {"$ref": "#/$defs/same"}}}}}),
    ] {
        for read in [strict, lenient] {
            let fault = read(schema.clone());
            assert!(fault.contains("combined with each other"), "{schema:.100}: {fault:.200}");
        }
    }
    // As large, and not combined.
    for schema in [
        json!({"prefixItems": list(2_500, &|_| json!({"$ref": "#/$defs/o", "title": "An o"})), "$defs": {"o": object}}),
        json!({"anyOf": [object, {"type": "null"}], "default": null}),
        json!({"allOf": [{"$ref": "#/$defs/o"}, {"properties": {"q": {"type": "string"}}}], "$defs": {"o": object}}),
        json!({"type": "string", "enum": list(12_000, &|i| json!(i.to_string()))}),
    ] {
        let read = strict(schema);
        assert!(read.starts_with('{'), "{read:.200}");
    }
}

#[test]
fn addresses_are_held_to_the_lengths_that_they_may_have() {
    let email = |more: &str, value: Value| strict(json!({"type": "string", "format": "email", more: value}));
    let parts = r#""pattern":"^[^@]{1,64}@(?:[^.@]{1,63}\\.)*[^.@]{1,63}$""#;
    assert_eq!(
        email("maxLength", json!(99)),
        format!(r#"{{"type":"string","format":"email","maxLength":99,{parts}}}"#)
    );
    assert_eq!(
        email("pattern", json!("^a")),
        format!(
            r#"{{"type":"string","format":"email","pattern":"^a","maxLength":254,"allOf":[{{{parts}}}]}}"#
        )
    );
}

#[test]
fn few_patterns_may_hold_for_one_string_and_each_string_may_have_its_own() {
    let patterns = |n: usize| (0..n).map(|i| json!({"pattern": format!("a{i}.*b")})).collect::<Vec<_>>();
    assert!(strict(json!({"allOf": patterns(8)})).starts_with('{'));
    assert_eq!(
        lenient(json!({"properties": {"a": {"type": "string", "allOf": patterns(300)}}})),
        "more than 8 patterns are combined with each other (at #)"
    );
    assert!(strict(json!({"prefixItems": patterns(300)})).starts_with('{'));
    assert!(strict(json!({"anyOf": patterns(300)})).starts_with('{'));
}
