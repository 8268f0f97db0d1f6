//! Alternatives that are told apart by one property: unions with a discriminator, as libraries write them.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::references::References;

/// References in a row that are followed.
const MAX_STEPS: usize = 8;
/// Alternatives that are compared.
const MAX_ALTERNATIVES: usize = 256;

/// Whether each of the schemas in a list requires a property that has another value in every one of them.
pub(super) fn are_told_apart<'a>(list: &'a Value, references: &References<'a>) -> bool {
    let Some(list) = list.as_array().filter(|list| list.len() <= MAX_ALTERNATIVES) else { return false };
    let resolved = list.iter().map(|schema| Alternative::of(resolve(schema, references)?));
    let Some(alternatives) = resolved.collect::<Option<Vec<_>>>() else { return false };
    let Some(first) = alternatives.first() else { return false };
    first.required.iter().any(|name| {
        let mut seen = HashSet::new();
        alternatives.iter().all(|alternative| {
            let values = alternative.required_values(name);
            // The text of a value stands for it: `1` and `1.0` would be two.
            values.is_some_and(|values| {
                values.iter().all(|value| !value.is_number() && seen.insert(value.to_string()))
            })
        })
    })
}

/// An object.
struct Alternative<'a> {
    required: HashSet<&'a str>,
    properties: &'a Map<String, Value>,
}

impl<'a> Alternative<'a> {
    fn of(schema: &'a Value) -> Option<Alternative<'a>> {
        let is_object = schema.get("type").and_then(Value::as_str) == Some("object");
        let required = schema.get("required")?.as_array()?.iter().filter_map(Value::as_str).collect();
        let properties = schema.get("properties")?.as_object()?;
        is_object.then_some(Alternative { required, properties })
    }

    /// The values that a required property may have, where they are listed.
    fn required_values(&self, name: &str) -> Option<&'a [Value]> {
        let property = self.properties.get(name).filter(|_| self.required.contains(name))?;
        match property.get("const") {
            Some(only) => Some(std::slice::from_ref(only)),
            None => property.get("enum")?.as_array().map(Vec::as_slice),
        }
    }
}

fn resolve<'a>(schema: &'a Value, references: &References<'a>) -> Option<&'a Value> {
    let mut schema = schema;
    for _ in 0..MAX_STEPS {
        match schema.get("$ref") {
            Some(reference) => schema = references.resolve(reference.as_str()?)?.1,
            None => return Some(schema),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn alternatives_are_told_apart_by_a_property_that_all_require_with_values_of_their_own() {
        let pet = |kind: Value| json!({"type": "object", "properties": {"kind": kind, "n": {}}, "required": ["n", "kind"]});
        let check = |list: Value, expected: bool| {
            let root = json!({"$defs": {"cat": pet(json!({"const": "cat"}))}});
            assert_eq!(are_told_apart(&list, &References::new(&root)), expected, "{list}");
        };
        check(json!([pet(json!({"const": "cat"})), pet(json!({"const": "dog"}))]), true);
        check(json!([{"$ref": "#/$defs/cat"}, pet(json!({"enum": ["dog", "hound"]}))]), true);
        check(json!([pet(json!({"const": "cat"})), pet(json!({"enum": ["dog", "cat"]}))]), false);
        check(json!([pet(json!({"const": "cat"})), pet(json!({"type": "string"}))]), false);
        check(json!([pet(json!({"const": 1})), pet(json!({"const": 1.0}))]), false);
        check(json!([pet(json!({"const": "cat"})), {"type": "object"}]), false);
        check(json!([{"$ref": "#/$defs/none"}, pet(json!({"const": "dog"}))]), false);
        check(json!([]), false);
    }

    #[test]
    fn comparing_alternatives_of_many_properties_takes_no_longer_than_reading_them() {
        let names: Vec<String> = (0..300_000).map(|i| format!("p{i:06}")).collect();
        let properties: Map<String, Value> =
            names.iter().map(|name| (name.clone(), json!({"const": "same"}))).collect();
        let object = json!({"type": "object", "required": names, "properties": properties});
        let root = json!({});
        // To look through all names for each of them would take hours.
        assert!(!are_told_apart(&json!([object, object]), &References::new(&root)));
    }
}
