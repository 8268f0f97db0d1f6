//! Objects of a schema have no fields but those that it names, unless it says otherwise.
//!
//! JSON schema means the contrary, and other servers hold answers so. People send what pydantic makes of a class, which
//! says nothing of it: a small model would go on with fields of its own until its tokens are used up.
//! What fits the schema that comes out fits the client's too.

use serde_json::{Map, Value};

/// Closes every object of a schema that names fields, unless two parts of it could contradict each other then.
pub(super) fn close_objects(schema: &mut Value) {
    let mut adds_up = false;
    each_part(schema, &mut |part| adds_up |= is_sum(part));
    if !adds_up {
        each_part(schema, &mut |part| {
            if names_fields(part) && !SAY_OF_OTHERS.iter().any(|word| part.contains_key(*word)) {
                part.insert("additionalProperties".into(), false.into());
            }
        });
    }
}

const SAY_OF_OTHERS: [&str; 4] =
    ["additionalProperties", "patternProperties", "propertyNames", "unevaluatedProperties"];

fn names_fields(part: &Map<String, Value>) -> bool {
    part.get("properties").is_some_and(Value::is_object)
}

/// Whether one value must fit several schemas: what is closed lets no other's fields in.
fn is_sum(part: &Map<String, Value>) -> bool {
    let others = ["$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas"];
    let has_parts = part.get("allOf").and_then(Value::as_array).is_some_and(|parts| parts.len() > 1);
    has_parts || names_fields(part) && others.iter().any(|other| part.contains_key(*other))
}

/// Calls `with` with the schema and each within it. How deep they lie the JSON's reader has bounded.
fn each_part(schema: &mut Value, with: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Value::Object(part) = schema else { return };
    with(part);
    for (keyword, value) in part {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(named)) => {
                named.values_mut().for_each(|value| each_part(value, with));
            }
            ("items" | "prefixItems" | "allOf" | "anyOf" | "oneOf", Value::Array(list)) => {
                list.iter_mut().for_each(|value| each_part(value, with));
            }
            ("items" | "additionalItems" | "additionalProperties", within) => each_part(within, with),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn closed(mut schema: Value) -> Value {
        close_objects(&mut schema);
        schema
    }

    #[test]
    fn every_object_that_names_fields_is_closed() {
        let with = |closed: Value| {
            let mut pet = json!({"properties": {"name": {"type": "string"}}});
            let mut all = json!({
                "properties": {"pets": {"items": {"$ref": "#/$defs/Pet"}}, "allOf": {"allOf": [{"$ref": "#/$defs/Pet"}]}},
                "required": ["pets"],
            });
            if closed.is_boolean() {
                pet["additionalProperties"] = closed.clone();
                all["additionalProperties"] = closed;
            }
            all["properties"]["one"] = json!({"anyOf": [pet, {"type": "null"}]});
            all["$defs"] = json!({"Pet": pet});
            all
        };
        assert_eq!(closed(with(Value::Null)), with(false.into()));
    }

    #[test]
    fn one_that_says_of_other_fields_or_names_none_stays_as_it_is() {
        for schema in [
            json!({"type": "object"}),
            json!({"type": "object", "properties": {"a": true}, "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {"a": true}, "patternProperties": {"^x": true}}),
            json!({"enum": [{"properties": {}}]}),
        ] {
            assert_eq!(closed(schema.clone()), schema);
        }
    }

    #[test]
    fn parts_that_one_value_must_fit_stay_open() {
        let part = |name: &str| json!({"properties": {name: {"type": "integer"}}, "required": [name]});
        for schema in [
            json!({"allOf": [part("a"), part("b")]}),
            json!({"properties": {"a": true}, "anyOf": [part("b"), part("c")]}),
            json!({"$defs": {"B": part("b")}, "properties": {"a": true}, "$ref": "#/$defs/B"}),
        ] {
            assert_eq!(closed(schema.clone()), schema);
        }
    }
}
