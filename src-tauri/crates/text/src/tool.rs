//! Functions that a model may call, and calls that it made.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Words of a schema that are given.
const MAX_WORDS: usize = 16;

/// A function that a model may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// What it is called by.
    pub name: String,
    /// What it is for, in words for the model.
    pub description: Option<String>,
    /// The JSON schema of its arguments; absent means that there are none to speak of.
    pub parameters: Option<Value>,
    /// Whether a call's arguments always fit the schema.
    pub strict: bool,
}

impl Tool {
    /// What a template can be expected to write of it beside its name: a few words of its schema, the last ones first, and
    /// what it is for.
    pub fn words(&self) -> Vec<&str> {
        let mut words = Vec::new();
        self.parameters.iter().for_each(|schema| push_words(schema, &mut words));
        words.extend(self.description.as_deref());
        words
    }
}

fn push_words<'a>(schema: &'a Value, words: &mut Vec<&'a str>) {
    match schema {
        Value::String(text) if words.len() < MAX_WORDS => words.push(text),
        Value::Array(values) => values.iter().rev().for_each(|value| push_words(value, words)),
        Value::Object(members) => {
            for (key, value) in members.iter().rev() {
                push_words(value, words);
                if words.len() < MAX_WORDS {
                    words.push(key);
                }
            }
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// A call that a model made, as a conversation has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What its result refers to; may be empty where an API has none.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// JSON, as whoever wrote it wrote it. It may be broken: models break it, and clients send it back.
    pub arguments: String,
}
