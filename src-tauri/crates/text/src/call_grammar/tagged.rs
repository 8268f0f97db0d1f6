//! Arguments between tags.

use serde_json::Value;

use super::held::HeldTool;
use super::lark::Lark;
use crate::answer_form::call_form::Tags;
use crate::parameters::{Kind, kind};

/// The arguments of a tool, in the order of its schema.
pub(crate) fn tagged_arguments(lark: &mut Lark<'_>, tags: &Tags<String>, held: &HeldTool<'_>) -> String {
    let arguments = held.arguments.iter().map(|argument| {
        let open =
            format!("{}{}{}{}{}", tags.key_open, argument.name, tags.key_end, tags.value_open, tags.padding);
        let close = format!("{}{}", tags.padding, tags.value_end);
        let value = match kind(Some(held.tool), &argument.name) {
            Kind::Text | Kind::TextOrNull => text_value(lark, &argument.own, &close),
            Kind::Json | Kind::Any => {
                let json = lark.json(&argument.schema);
                format!("{json} {}", lark.text(&close))
            }
        };
        let body = format!("{} {value} {}", lark.text(&open), lark.text(tags.between));
        let rule = lark.rule(&body);
        if argument.is_required { rule } else { format!("({rule})?") }
    });
    let arguments: Vec<String> = arguments.collect();
    arguments.join(" ")
}

/// A text that stands without quotes, and what closes it.
pub(crate) fn text_value(lark: &mut Lark<'_>, schema: &Value, close: &str) -> String {
    let listed = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice);
    let constant = schema.get("const").map(std::slice::from_ref);
    if let Some(values) = listed.or(constant) {
        let words = values.iter().map(|value| match value {
            Value::String(text) => lark.text(text),
            value => lark.text(&value.to_string()),
        });
        let words: Vec<String> = words.collect();
        return format!("({}) {}", words.join(" | "), lark.text(close));
    }
    let count = |name: &str| schema.get(name).and_then(Value::as_u64);
    lark.text_until(close, count("minLength").unwrap_or(0), count("maxLength"))
}
