//! What a tool's schema says of its arguments, for forms whose values have no types of their own.

use serde_json::{Map, Value};

use crate::Tool;

/// Schemas that are looked at for one type: those within each other, and those that references lead to.
const MAX_SCHEMAS: usize = 256;
/// How deep they lie within each other.
const MAX_DEPTH: usize = 8;

/// What a value is, by its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, whatever it says.
    Text,
    /// Text, or nothing: `null`.
    TextOrNull,
    /// JSON, of any type but text.
    Json,
    /// Nobody says: JSON where it is JSON, else text.
    Any,
}

/// The schemas of a tool's arguments by their names.
pub(crate) fn properties(tool: &Tool) -> Option<&Map<String, Value>> {
    tool.parameters.as_ref()?.get("properties")?.as_object()
}

/// What the argument `name` of a tool is.
pub(crate) fn kind(tool: Option<&Tool>, name: &str) -> Kind {
    let Some(tool) = tool else { return Kind::Any };
    let Some(schema) = properties(tool).and_then(|properties| properties.get(name)) else { return Kind::Any };
    let mut types = Types::default();
    types.note(schema, tool.parameters.as_ref().unwrap_or(&Value::Null), MAX_DEPTH);
    match types {
        Types { text: true, null: true, .. } => Kind::TextOrNull,
        Types { text: true, .. } => Kind::Text,
        Types { other: true, .. } | Types { null: true, .. } => Kind::Json,
        _ => Kind::Any,
    }
}

#[derive(Debug, Default)]
struct Types {
    text: bool,
    null: bool,
    other: bool,
    n_schemas: usize,
}

impl Types {
    /// Notes what a schema says, and those within it, so many levels down. References may lead round in circles, and
    /// there may be many in each: what is looked at is bounded in all.
    fn note(&mut self, schema: &Value, root: &Value, depth: usize) {
        self.n_schemas += 1;
        if depth == 0 || self.n_schemas > MAX_SCHEMAS {
            return;
        }
        match schema.get("type") {
            Some(Value::String(name)) => self.note_name(name),
            Some(Value::Array(names)) => {
                names
                    .iter()
                    .take(MAX_SCHEMAS)
                    .filter_map(Value::as_str)
                    .for_each(|name| self.note_name(name));
            }
            _ => {}
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            self.null = true;
        }
        let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten().take(MAX_SCHEMAS);
        for value in listed.chain(schema.get("const")) {
            match value {
                Value::String(_) => self.text = true,
                Value::Null => self.null = true,
                _ => self.other = true,
            }
        }
        for combined in ["anyOf", "oneOf", "allOf"] {
            let schemas = schema.get(combined).and_then(Value::as_array).into_iter().flatten();
            schemas.take(MAX_SCHEMAS).for_each(|schema| self.note(schema, root, depth - 1));
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str)
            && let Some(schema) = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
        {
            self.note(schema, root, depth - 1);
        }
    }

    fn note_name(&mut self, name: &str) {
        match name {
            "string" => self.text = true,
            "null" => self.null = true,
            _ => self.other = true,
        }
    }
}

/// A value whose text is there, as JSON.
pub(crate) fn value(text: &str, kind: Kind) -> String {
    let quoted = || Value::from(text).to_string();
    let trimmed = text.trim();
    let is_json = |text: &str| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    match kind {
        Kind::TextOrNull if trimmed == "null" || trimmed == "None" => "null".to_owned(),
        Kind::Text | Kind::TextOrNull => quoted(),
        Kind::Json | Kind::Any if is_json(trimmed) => trimmed.to_owned(),
        Kind::Json => match trimmed {
            "True" => "true".to_owned(),
            "False" => "false".to_owned(),
            "None" => "null".to_owned(),
            _ => quoted(),
        },
        Kind::Any => quoted(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_says_what_a_value_is() {
        let tool = Tool {
            parameters: Some(json!({
                "properties": {
                    "text": {"type": "string"},
                    "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "number": {"type": ["integer", "null"]},
                    "choice": {"enum": ["a", "b"]},
                    "there": {"$ref": "#/$defs/there"},
                    "loop": {"$ref": "#/$defs/loop"},
                    "open": {"description": "x"},
                },
                "$defs": {"there": {"type": "object"}, "loop": {"$ref": "#/$defs/loop"}},
            })),
            ..Tool::default()
        };
        for (name, want) in [
            ("text", Kind::Text),
            ("maybe", Kind::TextOrNull),
            ("number", Kind::Json),
            ("choice", Kind::Text),
            ("there", Kind::Json),
            ("loop", Kind::Any),
            ("open", Kind::Any),
            ("unknown", Kind::Any),
        ] {
            assert_eq!(kind(Some(&tool), name), want, "{name}");
        }
    }

    #[test]
    fn schemas_that_lead_round_in_circles_are_looked_at_a_bounded_number_of_times() {
        // Each of sixty-four leads to sixty-four: without a bound there would be as many as stars.
        let all = vec![json!({"$ref": "#/$defs/all"}); 64];
        let tool = Tool {
            parameters: Some(json!({
                "properties": {"a": {"$ref": "#/$defs/all"}},
                "$defs": {"all": {"anyOf": all.clone(), "oneOf": all.clone(), "allOf": all}},
            })),
            ..Tool::default()
        };
        assert_eq!(kind(Some(&tool), "a"), Kind::Any);
    }

    #[test]
    fn text_stays_text_and_everything_else_is_json() {
        assert_eq!(value("12", Kind::Text), "\"12\"");
        assert_eq!(value("12", Kind::Json), "12");
        assert_eq!(value(" {\"b\": 1,  \"a\": 2} ", Kind::Json), "{\"b\": 1,  \"a\": 2}");
        assert_eq!(value("True", Kind::Json), "true");
        assert_eq!(value("twelve", Kind::Json), "\"twelve\"");
        assert_eq!(value("null", Kind::TextOrNull), "null");
        assert_eq!(value("12", Kind::Any), "12");
        assert_eq!(value("a b", Kind::Any), "\"a b\"");
    }
}
