//! Alternatives that are told apart by one property: unions with a discriminator, as libraries write them.

use std::collections::HashSet;

use serde_json::Value;

use super::references::References;

/// References in a row that are followed.
const MAX_STEPS: usize = 8;
/// Alternatives that are compared.
const MAX_ALTERNATIVES: usize = 256;

/// Whether each of the schemas in a list requires a property that has another value in every one of them.
pub(super) fn are_told_apart(list: &Value, references: &References<'_>) -> bool {
    let Some(list) = list.as_array().filter(|list| list.len() <= MAX_ALTERNATIVES) else { return false };
    let resolved: Option<Vec<&Value>> = list.iter().map(|schema| resolve(schema, references)).collect();
    let Some(alternatives) = resolved else { return false };
    let Some(first) = alternatives.first() else { return false };
    let names = first.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).any(|name| {
        let mut seen = HashSet::new();
        alternatives.iter().all(|schema| {
            let values = required_values(schema, name);
            // The text of a value stands for it: `1` and `1.0` would be two.
            values.is_some_and(|values| {
                values.iter().all(|value| !value.is_number() && seen.insert(value.to_string()))
            })
        })
    })
}

/// The values that an object's required property may have, where they are listed.
fn required_values<'a>(schema: &'a Value, name: &str) -> Option<&'a [Value]> {
    let is_object = schema.get("type").and_then(Value::as_str) == Some("object");
    let required = schema.get("required")?.as_array()?;
    if !is_object || !required.iter().any(|other| other == name) {
        return None;
    }
    let property = schema.get("properties")?.get(name)?;
    match property.get("const") {
        Some(only) => Some(std::slice::from_ref(only)),
        None => property.get("enum")?.as_array().map(Vec::as_slice),
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
}
