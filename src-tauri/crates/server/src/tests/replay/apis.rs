//! A conversation with a tool in the words of each API.

use serde_json::{Map, Number, Value, json};

/// How a client writes JSON that it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    AsItCame,
    Sorted,
    Spaced,
    Escaped,
    OtherNumbers,
}

/// An API whose clients send whole conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    OpenAi,
}

impl Style {
    pub(super) const ALL: [Style; 5] =
        [Style::AsItCame, Style::Sorted, Style::Spaced, Style::Escaped, Style::OtherNumbers];

    fn value(self, value: &Value) -> Value {
        match self {
            Style::Sorted => sorted(value),
            Style::OtherNumbers => other_numbers(value),
            Style::AsItCame | Style::Spaced | Style::Escaped => value.clone(),
        }
    }

    /// JSON as text.
    fn text(self, value: &Value) -> String {
        match self {
            Style::Spaced => serde_json::to_string_pretty(value).unwrap(),
            Style::Escaped => {
                let text = value.to_string();
                let escaped = text.chars().map(|c| match c {
                    '\0'..='\u{7f}' => c.to_string(),
                    c => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
                });
                escaped.collect()
            }
            Style::AsItCame | Style::Sorted | Style::OtherNumbers => self.value(value).to_string(),
        }
    }

    /// A request's body, whose own numbers stay as they are.
    pub(super) fn body(self, body: &Value) -> String {
        match self {
            Style::OtherNumbers => body.to_string(),
            other => other.text(body),
        }
    }

    /// Arguments that came as text.
    fn arguments(self, arguments: &Value) -> Value {
        let text = arguments.as_str().unwrap();
        match self {
            Style::AsItCame => text.into(),
            other => other.text(&serde_json::from_str(text).unwrap()).into(),
        }
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut members: Vec<(&String, &Value)> = object.iter().collect();
            members.sort_by(|a, b| b.0.cmp(a.0));
            let members = members.into_iter().map(|(key, value)| (key.clone(), sorted(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// `1` as `1.0`.
fn other_numbers(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            Value::Object(object.iter().map(|(key, value)| (key.clone(), other_numbers(value))).collect())
        }
        Value::Array(values) => values.iter().map(other_numbers).collect(),
        Value::Number(number) => {
            number.as_f64().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
        }
        other => other.clone(),
    }
}

impl Api {
    pub(super) const ALL: [Api; 1] = [Api::OpenAi];

    pub(super) fn path(self) -> &'static str {
        match self {
            Api::OpenAi => "/v1/chat/completions",
        }
    }

    pub(super) fn tools(self) -> Value {
        let schema = json!({
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "depth": {"type": "integer"},
                "with": {"type": "object"},
            },
        });
        let function = json!({"name": "look", "description": "the path", "parameters": schema});
        match self {
            Api::OpenAi => json!([{"type": "function", "function": function}]),
        }
    }

    /// A request's body.
    pub(super) fn body(self, system: &str, history: &[Value]) -> Value {
        let with_system = |role: &str| -> Vec<Value> {
            std::iter::once(json!({"role": role, "content": system})).chain(history.iter().cloned()).collect()
        };
        match self {
            Api::OpenAi => {
                json!({"messages": with_system("system"), "tools": self.tools(), "max_tokens": 2000})
            }
        }
    }

    pub(super) fn question(self, text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    /// Puts an answer into the history; gives the call that it makes, if it makes one.
    pub(super) fn take(self, answer: &Value, style: Style, history: &mut Vec<Value>) -> Option<Value> {
        match self {
            Api::OpenAi => {
                let mut message = answer["choices"][0]["message"].clone();
                let call = message["tool_calls"].get(0).cloned();
                if call.is_some() {
                    let arguments = &mut message["tool_calls"][0]["function"]["arguments"];
                    *arguments = style.arguments(arguments);
                }
                history.push(message);
                call
            }
        }
    }

    /// A call's result.
    pub(super) fn result(self, call: &Value, text: &str) -> Value {
        match self {
            Api::OpenAi => json!({"role": "tool", "tool_call_id": call["id"], "content": text}),
        }
    }
}
