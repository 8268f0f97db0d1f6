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
    Anthropic,
    Responses,
    Ollama,
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
    pub(super) const ALL: [Api; 4] = [Api::OpenAi, Api::Anthropic, Api::Responses, Api::Ollama];

    pub(super) fn path(self) -> &'static str {
        match self {
            Api::OpenAi => "/v1/chat/completions",
            Api::Anthropic => "/v1/messages",
            Api::Responses => "/v1/responses",
            Api::Ollama => "/api/chat",
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
            Api::OpenAi | Api::Ollama => json!([{"type": "function", "function": function}]),
            Api::Anthropic => json!([{"name": "look", "description": "the path", "input_schema": schema}]),
            Api::Responses => {
                let mut tool = function;
                tool["type"] = "function".into();
                json!([tool])
            }
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
            Api::Anthropic => json!({
                "model": "scripted",
                "system": [{"type": "text", "text": system}],
                "messages": history,
                "tools": self.tools(),
                "max_tokens": 2000,
                "thinking": {"type": "enabled", "budget_tokens": 1024},
            }),
            Api::Responses => json!({
                "model": "scripted",
                "input": with_system("developer"),
                "tools": self.tools(),
                "max_output_tokens": 2000,
                "store": false,
            }),
            Api::Ollama => json!({
                "model": "scripted",
                "messages": with_system("system"),
                "tools": self.tools(),
                "stream": false,
                "options": {"num_predict": 2000},
            }),
        }
    }

    pub(super) fn question(self, text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    /// Whether an answer has thoughts, which a client sends back with it.
    pub(super) fn has_thinking(self, answer: &Value) -> bool {
        let has =
            |values: &Value, kind: &str| values.as_array().unwrap().iter().any(|value| value["type"] == kind);
        match self {
            Api::OpenAi => answer["choices"][0]["message"]["reasoning_content"].is_string(),
            Api::Anthropic => has(&answer["content"], "thinking"),
            Api::Responses => has(&answer["output"], "reasoning"),
            Api::Ollama => answer["message"]["thinking"].is_string(),
        }
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
            Api::Anthropic => {
                let mut content = answer["content"].clone();
                let mut call = None;
                for block in content.as_array_mut().unwrap() {
                    if block["type"] == "tool_use" {
                        block["input"] = style.value(&block["input"]);
                        call = Some(block.clone());
                    }
                }
                history.push(json!({"role": "assistant", "content": content}));
                call
            }
            Api::Responses => {
                let mut call = None;
                for item in answer["output"].as_array().unwrap() {
                    let mut item = item.clone();
                    if item["type"] == "function_call" {
                        item["arguments"] = style.arguments(&item["arguments"]);
                        call = Some(item.clone());
                    }
                    history.push(item);
                }
                call
            }
            Api::Ollama => {
                let mut message = answer["message"].clone();
                let call = message["tool_calls"].get(0).cloned();
                if call.is_some() {
                    let arguments = &mut message["tool_calls"][0]["function"]["arguments"];
                    *arguments = style.value(arguments);
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
            Api::Anthropic => json!({
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": text}],
            }),
            Api::Responses => {
                json!({"type": "function_call_output", "call_id": call["call_id"], "output": text})
            }
            Api::Ollama => json!({"role": "tool", "tool_name": "look", "content": text}),
        }
    }
}
