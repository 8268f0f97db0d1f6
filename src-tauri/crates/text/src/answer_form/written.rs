//! Calls of a conversation's past, written as its model writes them: for templates that do not show any.

use serde_json::Value;

use super::call_form::{Body, Calls, Tags};
use super::wrap::wrap;
use crate::ToolCall;

/// The calls of one answer, in this form.
pub(crate) fn written(form: &Calls<String>, calls: &[ToolCall]) -> String {
    let wrap = wrap(form);
    let bodies = calls.iter().map(|call| body(form, call));
    match wrap.between {
        Some(between) => {
            let bodies: Vec<String> = bodies.collect();
            format!("{}{}{}", wrap.open, bodies.join(between), wrap.close)
        }
        None => {
            let wrapped: Vec<String> =
                bodies.map(|body| format!("{}{body}{}", wrap.open, wrap.close)).collect();
            wrapped.join(wrap.after)
        }
    }
}

/// One call, without what stands around all of them.
fn body(form: &Calls<String>, call: &ToolCall) -> String {
    let name = call.name.as_str();
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let values = || match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(values)) => values,
        // What is no object cannot be taken apart.
        _ => [("arguments".to_owned(), Value::from(arguments))].into_iter().collect(),
    };
    let (open, close) = match form.block_open.is_empty() {
        true => ("", ""),
        false => (form.call_open.as_str(), form.call_close.as_str()),
    };
    match &form.body {
        Body::Json { name: "", .. } => format!("{{{}: {arguments}}}", Value::from(name)),
        Body::Json { name: name_key, arguments: arguments_key } => {
            format!("{{\"{name_key}\": {}, \"{arguments_key}\": {arguments}}}", Value::from(name))
        }
        Body::Named { before, cut, name_end, .. } => {
            let number = cut.map_or(String::new(), |cut| format!("{cut}0"));
            let close = if close.starts_with("```") { format!("\n{close}") } else { close.to_owned() };
            format!("{open}{before}{name}{number}{name_end}{arguments}{close}")
        }
        Body::Tagged(tags) => {
            let values: String =
                values().iter().map(|(key, value)| tagged(tags, key, value) + tags.between).collect();
            let between = if tags.name_end.is_empty() { "" } else { tags.between };
            format!("{open}{}{name}{}{between}{values}{}", tags.name_open, tags.name_end, tags.end)
        }
        Body::Python => {
            let values: Vec<String> =
                values().iter().map(|(key, value)| format!("{key}={}", python(value))).collect();
            format!("{name}({})", values.join(", "))
        }
        Body::Braced { quote } => {
            let values: Vec<String> =
                values().iter().map(|(key, value)| format!("{key}:{}", braced(value, quote))).collect();
            format!("call:{name}{{{}}}", values.join(","))
        }
        Body::Harmony(channels) => {
            let (channel, message, call) = (&channels.channel, &channels.message, &channels.call);
            format!("{channel}commentary to=functions.{name} json{message}{arguments}{call}")
        }
    }
}

fn tagged(tags: &Tags<String>, key: &str, value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text = match tags.quotes {
        Some((open, close)) if value.is_string() && text.contains(['<', '&', '\n']) => {
            format!("{open}{text}{close}")
        }
        _ => text,
    };
    let padding = tags.padding;
    let (key_open, key_end) = (&tags.key_open, &tags.key_end);
    format!("{key_open}{key}{key_end}{}{padding}{text}{padding}{}", tags.value_open, tags.value_end)
}

/// A value as Python writes it. A text as JSON has it is one in Python too.
fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(python).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(values) => {
            let values: Vec<String> = values
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), python(value)))
                .collect();
            format!("{{{}}}", values.join(", "))
        }
    }
}

fn braced(value: &Value, quote: &str) -> String {
    match value {
        Value::String(text) => format!("{quote}{text}{quote}"),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| braced(value, quote)).collect();
            format!("[{}]", values.join(","))
        }
        Value::Object(values) => {
            let values: Vec<String> =
                values.iter().map(|(key, value)| format!("{key}:{}", braced(value, quote))).collect();
            format!("{{{}}}", values.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::table::FAMILIES;
    use super::*;
    use crate::answer_form::{AnswerForm, Begins};
    use crate::{AnswerReader, Spoken, Tool};

    #[test]
    fn calls_that_are_written_are_read_as_what_they_are_in_every_familys_form() {
        let arguments = json!({"city": "Köln <&> \"x\"", "days": 3, "in": {"a": [true, null, "y"]}});
        let properties =
            json!({"city": {"type": "string"}, "days": {"type": "integer"}, "in": {"type": "object"}});
        let tool = |name: &str, properties: Value| Tool {
            name: name.to_owned(),
            parameters: Some(json!({"type": "object", "properties": properties})),
            ..Tool::default()
        };
        let tools = vec![tool("get_weather", properties), tool("now", json!({}))];
        let call = |name: &str, arguments: &Value| ToolCall {
            id: String::new(),
            name: name.to_owned(),
            arguments: arguments.to_string(),
        };
        let calls = [call("get_weather", &arguments), call("now", &json!({}))];
        for family in FAMILIES {
            let form = family.calls.map(str::to_owned);
            let is_harmony = form.is_harmony();
            // An answer in channels has one call.
            let calls = if is_harmony { &calls[..1] } else { &calls };
            let text = written(&form, calls);
            let form =
                Arc::new(AnswerForm { thoughts: None, calls: form, is_known: true, silent: Vec::new() });
            let begins = if is_harmony { Begins::Header } else { Begins::Text };
            let mut reader = AnswerReader::new(form, tools.clone(), begins);
            let mut read: Vec<(String, String)> = Vec::new();
            for spoken in reader.push(&text).into_iter().chain(reader.finish()) {
                match spoken {
                    Spoken::Call(name) => read.push((name, String::new())),
                    Spoken::Arguments(more) => read.last_mut().unwrap().1.push_str(&more),
                    other => panic!("{other:?} of {text}"),
                }
            }
            let read: Vec<(&str, Value)> = read
                .iter()
                .map(|(name, text)| (name.as_str(), serde_json::from_str(text).unwrap()))
                .collect();
            let want = [("get_weather", arguments.clone()), ("now", json!({}))];
            assert_eq!(read, want[..calls.len()], "{}: {text}", family.calls.name);
        }
    }
}
