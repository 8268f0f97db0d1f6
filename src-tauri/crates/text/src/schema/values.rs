//! What the values of single keywords must be, and what keywords say together.

use serde_json::{Map, Value, json};

use super::fault::SchemaFault;
use super::place::Place;

/// Properties of one object, if there is no other of many.
pub(crate) const MAX_PROPERTIES: usize = 2_500;

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// Whether a schema lets values lie in its own that it says nothing of.
pub(super) fn is_open(read: &Map<String, Value>) -> bool {
    let has = |keywords: &[&str]| keywords.iter().any(|keyword| read.contains_key(*keyword));
    if has(&["const", "enum", "$ref", "anyOf", "oneOf", "allOf"]) {
        return false;
    }
    let may_be = |name: &str| match read.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(names)) => names.iter().any(|other| other == name),
        _ => true,
    };
    (may_be("object") && !has(&["additionalProperties"])) || (may_be("array") && !has(&["items"]))
}

/// Whether nothing else in a schema can bring properties.
pub(super) fn stands_alone(schema: &Map<String, Value>) -> bool {
    !["allOf", "anyOf", "oneOf", "$ref", "if", "dependentSchemas", "additionalProperties"]
        .iter()
        .any(|keyword| schema.contains_key(*keyword))
}

pub(super) fn types(value: &Value, at: &Place<'_>) -> Result<Value, SchemaFault> {
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let fits = match value {
        Value::Array(types) => !types.is_empty() && types.len() <= TYPES.len() && types.iter().all(is_type),
        value => is_type(value),
    };
    if fits { Ok(value.clone()) } else { Err(at.fault(format!("must be of {}", TYPES.join(", ")))) }
}

pub(super) fn required(value: &Value, at: &Place<'_>) -> Result<Value, SchemaFault> {
    // Draft 3 said it of each property with a boolean.
    if value.is_boolean() {
        return Ok(json!([]));
    }
    let names = value.as_array().filter(|names| names.iter().all(Value::is_string));
    let names = names.ok_or_else(|| at.fault("must be a list of names"))?;
    if names.len() > MAX_PROPERTIES {
        return Err(at.fault(format!("more than {MAX_PROPERTIES} names")));
    }
    Ok(value.clone())
}

/// A number of things; `4.0` is as good as `4`.
pub(super) fn count(value: &Value, at: &Place<'_>) -> Result<u64, SchemaFault> {
    let whole = value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0);
    // A float above what a `u64` holds becomes the largest, which is beyond every bound.
    whole.map(|n| n as u64).ok_or_else(|| at.fault("must be a whole number that is not negative"))
}

pub(super) fn text<'a>(value: &'a Value, at: &Place<'_>) -> Result<&'a str, SchemaFault> {
    value.as_str().ok_or_else(|| at.fault("must be a string"))
}
