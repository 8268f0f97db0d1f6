//! How an answer is written: as lines of JSON, or as one object.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::fault::OllamaError;
use crate::calls::answer::{Answer, CallPart, End, Finish, Head, Part, PromptTokens, ScoredToken, Text};
use crate::calls::fault::Fault;
use crate::dialects::arguments::as_object;
use crate::dialects::dialect::Writer;
use crate::dialects::openai::logprobs::ChatLogprob;
use crate::dialects::sse::json;
use crate::dialects::timestamps::rfc3339;

/// The content type of a stream of lines.
const LINES: &str = "application/x-ndjson";

/// Which call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Chat,
    Generate,
}

/// Writes the answers of one call.
pub(crate) struct Lines {
    form: Form,
    /// The model as its client calls it.
    model: Option<String>,
    with_logprobs: bool,
    /// A call that is not whole yet: it goes out in one line.
    call: Option<CallPart>,
}

/// An answer, or a part of it: a line of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaAnswer {
    model: String,
    /// As RFC 3339 has it.
    created_at: String,
    #[serde(flatten)]
    said: Said,
    /// Whether this is all.
    done: bool,
    /// `stop`, `length`, `load` or `unload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<ChatLogprob>,
    #[serde(flatten)]
    #[schema(value_type = Took)]
    took: Option<Took>,
}

/// What is said, in the form of the one call or the other.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Said {
    Chat {
        message: OllamaMessage,
    },
    Generate {
        response: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        thinking: Option<String>,
    },
}

/// A message, or a part of one.
#[derive(Debug, Serialize, ToSchema)]
struct OllamaMessage {
    /// `assistant`
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<OllamaCall>,
}

/// A call of a function.
#[derive(Debug, Serialize, ToSchema)]
struct OllamaCall {
    id: String,
    function: OllamaFunction,
}

#[derive(Debug, Serialize, ToSchema)]
struct OllamaFunction {
    index: usize,
    name: String,
    #[schema(value_type = Object)]
    arguments: Box<RawValue>,
}

/// What an answer took: tokens, and nanoseconds.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Took {
    #[schema(required = false)]
    total_duration: u64,
    /// How long it waited for its turn.
    #[schema(required = false)]
    load_duration: u64,
    #[schema(required = false)]
    prompt_eval_count: usize,
    #[schema(required = false)]
    prompt_eval_duration: u64,
    #[schema(required = false)]
    eval_count: usize,
    #[schema(required = false)]
    eval_duration: u64,
}

impl Took {
    fn new(end: &End) -> Took {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let times = end.times;
        Took {
            total_duration: nanoseconds(times.queued + times.reading + times.writing),
            load_duration: nanoseconds(times.queued),
            prompt_eval_count: end.usage.n_prompt,
            prompt_eval_duration: nanoseconds(times.reading),
            eval_count: end.usage.n_generated,
            eval_duration: nanoseconds(times.writing),
        }
    }
}

/// Parts of an answer, put together.
#[derive(Debug, Default)]
struct Words {
    text: String,
    thinking: String,
    calls: Vec<CallPart>,
    scored: Vec<ScoredToken>,
}

impl Words {
    fn add(&mut self, part: Part) {
        match part {
            Part::Text(text) => {
                self.text.push_str(&text.text);
                self.scored.extend(text.scored);
            }
            Part::Thinking(thinking) => self.thinking.push_str(&thinking),
            Part::ToolCall(call) => self.calls.push(call),
        }
    }
}

impl Form {
    fn said(self, words: Words) -> Said {
        let thinking = Some(words.thinking).filter(|thinking| !thinking.is_empty());
        match self {
            Form::Generate => Said::Generate { response: words.text, thinking },
            Form::Chat => {
                let call = |call: CallPart| OllamaCall {
                    id: format!("call_{}", call.id),
                    function: OllamaFunction {
                        index: call.index,
                        name: call.name,
                        arguments: as_object(&call.arguments),
                    },
                };
                let tool_calls = words.calls.into_iter().map(call).collect();
                Said::Chat {
                    message: OllamaMessage { role: "assistant", content: words.text, thinking, tool_calls },
                }
            }
        }
    }
}

/// What is said where nothing is to be: that the model is there, or that it may go.
pub(crate) fn model_only(form: Form, model: String, reason: &'static str) -> OllamaAnswer {
    OllamaAnswer {
        model,
        created_at: now(),
        said: form.said(Words::default()),
        done: true,
        done_reason: Some(reason),
        logprobs: Vec::new(),
        took: None,
    }
}

fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(now.as_secs(), now.subsec_nanos())
}

impl Lines {
    pub(crate) fn new(form: Form, model: Option<String>, with_logprobs: bool) -> Lines {
        let model = model.filter(|model| !model.is_empty());
        Lines { form, model, with_logprobs, call: None }
    }

    fn answer(&self, head: &Head, words: Words, end: Option<&End>) -> OllamaAnswer {
        let logprobs = words.scored.iter().filter(|_| self.with_logprobs).map(ChatLogprob::new).collect();
        let done_reason = end.map(|end| match end.finish {
            Finish::EndOfTurn | Finish::ToolCalls | Finish::StopString(_) => "stop",
            Finish::Length => "length",
        });
        OllamaAnswer {
            model: self.model.clone().unwrap_or_else(|| head.model.clone()),
            created_at: now(),
            said: self.form.said(words),
            done: end.is_some(),
            done_reason,
            logprobs,
            took: end.map(Took::new),
        }
    }

    fn line(&self, head: &Head, words: Words, end: Option<&End>, out: &mut String) {
        out.push_str(&json(&self.answer(head, words, end)));
        out.push('\n');
    }

    /// Say the call that is whole by now.
    fn say_call(&mut self, head: &Head, out: &mut String) {
        if let Some(call) = self.call.take() {
            self.line(head, Words { calls: vec![call], ..Words::default() }, None, out);
        }
    }
}

impl Writer for Lines {
    fn media_type(&self) -> &'static str {
        LINES
    }

    fn open(&mut self, _: &Head, _: PromptTokens, _: &mut String) {}

    fn part(&mut self, head: &Head, part: &Part, out: &mut String) {
        let with_logprobs = self.with_logprobs;
        let is_silent = |text: &Text| text.text.is_empty() && (!with_logprobs || text.scored.is_empty());
        match (&mut self.call, part) {
            (Some(before), Part::ToolCall(more)) if before.index == more.index => {
                before.arguments.push_str(&more.arguments);
            }
            (_, Part::ToolCall(call)) => {
                self.say_call(head, out);
                self.call = Some(call.clone());
            }
            (_, Part::Text(text)) if is_silent(text) => {}
            (_, Part::Text(_) | Part::Thinking(_)) => {
                self.say_call(head, out);
                let mut words = Words::default();
                words.add(part.clone());
                self.line(head, words, None, out);
            }
        }
    }

    fn end(&mut self, head: &Head, end: &End, out: &mut String) {
        self.say_call(head, out);
        self.line(head, Words::default(), Some(end), out);
    }

    fn break_off(&mut self, _: &Head, fault: &Fault, out: &mut String) {
        out.push_str(&json(&OllamaError::new(fault)));
        out.push('\n');
    }

    fn prefill(&mut self, head: &Head, _: usize, _: usize, out: &mut String) {
        self.alive(head, out);
    }

    /// Lines have no comments: a part of nothing is the least that there is.
    fn alive(&mut self, head: &Head, out: &mut String) {
        self.line(head, Words::default(), None, out);
    }

    fn whole(&mut self, head: &Head, answer: Answer) -> String {
        let mut words = Words::default();
        answer.parts.into_iter().for_each(|part| words.add(part));
        json(&self.answer(head, words, Some(&answer.end)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::calls::answer::{Times, Usage};

    const HEAD: Head = Head { id: String::new(), created: 7, model: String::new(), fingerprint: [0xab; 32] };

    fn text(text: &str) -> Part {
        Part::Text(Text { text: text.to_owned(), scored: Vec::new() })
    }

    fn call(index: usize, arguments: &str) -> Part {
        let (id, name, arguments) = (format!("c{index}"), "w".to_owned(), arguments.to_owned());
        Part::ToolCall(CallPart { index, id, name, arguments })
    }

    fn end() -> End {
        let times = Times {
            queued: Duration::from_nanos(1),
            reading: Duration::from_nanos(20),
            writing: Duration::from_nanos(300),
        };
        let usage = Usage { n_prompt: 9, n_reused: 4, n_generated: 6, n_thinking: 2 };
        End { finish: Finish::EndOfTurn, usage, times }
    }

    /// The lines of an answer of these parts, without model and time.
    fn lines(form: Form, parts: &[Part]) -> Vec<Value> {
        let mut out = String::new();
        let mut writer = Lines::new(form, Some("m".into()), false);
        writer.open(&HEAD, PromptTokens::default(), &mut out);
        parts.iter().for_each(|part| writer.part(&HEAD, part, &mut out));
        writer.end(&HEAD, &end(), &mut out);
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let line_fields = line.as_object_mut().unwrap();
            assert_eq!(line_fields.remove("model"), Some("m".into()));
            assert!(line_fields.remove("created_at").is_some());
            line
        };
        out.lines().map(line).collect()
    }

    #[test]
    fn a_chat_is_said_in_lines_and_a_call_in_one() {
        let parts = [
            Part::Thinking("hm".into()),
            text("a"),
            text(""),
            call(0, "{\"b\""),
            call(0, ": 1}"),
            call(1, ""),
        ];
        let message = |more: Value| {
            let mut message = json!({"role": "assistant", "content": ""});
            message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"message": message, "done": false})
        };
        let function = |i: usize, arguments: Value| json!({"tool_calls": [{"id": format!("call_c{i}"), "function": {"index": i, "name": "w", "arguments": arguments}}]});
        assert_eq!(
            lines(Form::Chat, &parts),
            [
                message(json!({"thinking": "hm"})),
                message(json!({"content": "a"})),
                message(function(0, json!({"b": 1}))),
                message(function(1, json!({}))),
                json!({"message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop",
                       "total_duration": 321, "load_duration": 1, "prompt_eval_count": 9, "prompt_eval_duration": 20,
                       "eval_count": 6, "eval_duration": 300}),
            ]
        );
    }

    #[test]
    fn a_prompt_is_answered_in_lines_of_response() {
        let lines = lines(Form::Generate, &[Part::Thinking("hm".into()), text("a"), text("b")]);
        assert_eq!(lines[0], json!({"response": "", "thinking": "hm", "done": false}));
        let all: String = lines.iter().map(|line| line["response"].as_str().unwrap()).collect();
        assert_eq!((all.as_str(), &lines[3]["done"]), ("ab", &true.into()));
    }

    #[test]
    fn a_whole_answer_says_what_the_lines_add_up_to() {
        let parts = vec![Part::Thinking("hm".into()), text("ab"), call(0, "{\"b\": 1}")];
        let whole = Lines::new(Form::Chat, None, false)
            .whole(&HEAD, Answer { prompt: PromptTokens::default(), parts, end: end() });
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(
            (&whole["message"]["content"], &whole["message"]["thinking"]),
            (&"ab".into(), &"hm".into())
        );
        assert_eq!(whole["message"]["tool_calls"][0]["function"]["arguments"], json!({"b": 1}));
        assert_eq!((&whole["done"], &whole["total_duration"]), (&true.into(), &321.into()));
    }

    #[test]
    fn an_answer_that_breaks_off_ends_with_an_error_line() {
        let mut out = String::new();
        let mut writer = Lines::new(Form::Chat, None, false);
        writer.part(&HEAD, &text("a"), &mut out);
        writer.break_off(&HEAD, &Fault::internal("r-1", "words for the log"), &mut out);
        let last = out.lines().last().unwrap();
        assert!(
            last.starts_with(r#"{"error":"internal error"#) && !out.contains("words for the log"),
            "{out}"
        );
    }

    #[test]
    fn a_prefill_is_shown_in_lines_of_nothing() {
        let mut out = String::new();
        Lines::new(Form::Chat, Some("m".into()), false).prefill(&HEAD, 1, 2, &mut out);
        let line: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&line["message"]["content"], &line["done"]), (&"".into(), &false.into()));
    }
}
