//! Answers: as a stream that is read event by event, and as what has come in the end.

use serde_json::{Value, json};

use super::http::Events;

/// An answer's stream.
pub(crate) struct AnswerStream {
    events: Events,
    answer: Answer,
    ended: bool,
}

/// What came.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) finish_reason: Option<String>,
    pub(crate) usage: Option<Value>,
    /// The terminal error event.
    pub(crate) error: Option<Value>,
    /// Whether `[DONE]` came.
    pub(crate) done: bool,
    /// Whether the connection ended without an end of the body.
    pub(crate) broken: bool,
}

impl Answer {
    /// Panics unless the answer is whole: a finish reason, then `[DONE]`, and no error.
    pub(crate) fn assert_complete(&self) {
        let whole = self.finish_reason.is_some() && self.done && self.error.is_none() && !self.broken;
        assert!(whole, "not complete: {self:?}");
    }
}

impl AnswerStream {
    pub(crate) fn new(events: Events) -> AnswerStream {
        AnswerStream { events, answer: Answer::default(), ended: false }
    }

    /// Read on until some text has come (more than before), or the end.
    pub(crate) fn wait_for_text(&mut self) -> &Answer {
        let before = self.answer.text.len();
        while !self.ended && self.answer.text.len() == before {
            self.step();
        }
        assert!(self.answer.text.len() > before, "no text came: {:?}", self.answer);
        &self.answer
    }

    /// Read to the end.
    pub(crate) fn finish(mut self) -> Answer {
        while !self.ended {
            self.step();
        }
        self.answer
    }

    fn step(&mut self) {
        let event = match self.events.next() {
            Ok(Some(event)) => event,
            Ok(None) => {
                self.ended = true;
                return;
            }
            Err(_) => {
                self.answer.broken = true;
                self.ended = true;
                return;
            }
        };
        assert!(!self.answer.done && self.answer.error.is_none(), "an event after the end: {event:?}");
        if event.data == "[DONE]" {
            self.answer.done = true;
            return;
        }
        let data: Value = serde_json::from_str(&event.data).expect("an event's data is JSON");
        if data.get("error").is_some() {
            self.answer.error = Some(data["error"].clone());
            return;
        }
        if let Some(usage) = data.get("usage").filter(|u| !u.is_null()) {
            self.answer.usage = Some(usage.clone());
        }
        for choice in data["choices"].as_array().into_iter().flatten() {
            let text = choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str());
            self.answer.text.push_str(text.unwrap_or_default());
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.answer.finish_reason = Some(reason.to_owned());
            }
        }
    }
}

/// A chat of one user message, greedy.
///
/// It says what the assistant is: with the system prompt of its own template, SmolLM2 as small as this answers the
/// capital of France in a French of its own (llama.cpp's greedy answer is the same).
pub(crate) fn chat(prompt: &str, max_tokens: usize) -> Value {
    json!({
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": prompt},
        ],
        "max_tokens": max_tokens,
        "temperature": 0,
    })
}

/// A greedy chat that does not end before `max_tokens`: the model's own end of turn is passed over.
pub(crate) fn endless_chat(prompt: &str, max_tokens: usize) -> Value {
    let mut body = chat(prompt, max_tokens);
    body["ignore_eos"] = json!(true);
    body
}
