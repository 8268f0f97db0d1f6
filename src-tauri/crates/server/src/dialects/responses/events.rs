//! How a response is written: as one object, or as events that build it.

use std::collections::BTreeMap;
use std::sync::Arc;

use text::{ChatMessage, ToolCall};

use super::history::{KeptResponse, Shelf};
use super::items::custom_input;
use super::objects::{
    AskedFor, EventBody, IncompleteDetails, OutputItem, OutputPart, ResponseError, ResponseEvent,
    ResponseObject, Status, SummaryPart,
};
use super::shown_tools::{Called, Kind};
use crate::calls::answer::{Answer, CallPart, End, Finish, Head, Part, PromptTokens, ScoredToken, Text};
use crate::calls::fault::Fault;
use crate::calls::signing_key::SigningKey;
use crate::dialects::dialect::Writer;
use crate::dialects::openai::logprobs::ChatLogprob;
use crate::dialects::sse::{EVENT_STREAM, json, named};

/// Whether what the model thought comes with a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    Wanted,
    Unwanted,
}

/// What a response is written with.
pub(crate) struct Setting {
    pub(crate) asked: AskedFor,
    /// What the client calls the functions that the model was shown.
    pub(crate) called: BTreeMap<String, Called>,
    pub(crate) key: SigningKey,
    pub(crate) seal: Seal,
    /// Where the response is kept, with the conversation before it; absent where it is not.
    pub(crate) keeping: Option<Keeping>,
}

/// Where a response is kept.
pub(crate) struct Keeping {
    pub(crate) shelf: Arc<dyn Shelf>,
    /// The conversation that it answers, without instructions.
    pub(crate) messages: Vec<ChatMessage>,
}

/// Writes one response.
pub(crate) struct Events {
    setting: Setting,
    n_events: usize,
    /// The items that are done.
    output: Vec<OutputItem>,
    /// The answer as a later request will have it in its conversation.
    said: ChatMessage,
    /// The item under way.
    open: Option<Part>,
}

impl Events {
    pub(crate) fn new(setting: Setting) -> Events {
        let said = ChatMessage::new("assistant", "");
        Events { setting, n_events: 0, output: Vec::new(), said, open: None }
    }

    fn response(&self, head: &Head, status: Status) -> Box<ResponseObject> {
        Box::new(ResponseObject {
            id: response_id(head),
            object: "response",
            created_at: head.created,
            status,
            error: None,
            incomplete_details: None,
            model: head.model.clone(),
            output: self.output.clone(),
            usage: None,
            asked: self.setting.asked.clone(),
        })
    }

    /// The response as it is at its end.
    fn ended(&self, head: &Head, end: &End) -> Box<ResponseObject> {
        let (status, incomplete_details) = match end.finish {
            Finish::EndOfTurn | Finish::ToolCalls | Finish::StopString(_) => (Status::Completed, None),
            Finish::Length => (Status::Incomplete, Some(IncompleteDetails { reason: "max_output_tokens" })),
        };
        let usage = Some(end.usage.into());
        Box::new(ResponseObject { incomplete_details, usage, ..*self.response(head, status) })
    }

    fn keep(&mut self, response: &ResponseObject) {
        let Some(Keeping { shelf, mut messages }) = self.setting.keeping.take() else { return };
        messages.push(std::mem::take(&mut self.said));
        shelf.keep(KeptResponse { id: response.id.clone(), body: json(response), messages });
    }

    fn send(&mut self, name: &'static str, body: EventBody, out: &mut String) {
        let event = ResponseEvent { r#type: name, sequence_number: self.n_events, body };
        named(out, name, &json(&event));
        self.n_events += 1;
    }

    /// The place of the item under way.
    fn output_index(&self) -> usize {
        self.output.len()
    }

    fn item_id(&self, head: &Head, prefix: &str) -> String {
        format!("{prefix}_{}{:02x}", head.id, self.output_index())
    }

    /// What the client calls the function of a call.
    fn called(&self, call: &CallPart) -> Called {
        let known = self.setting.called.get(&call.name).cloned();
        known.unwrap_or_else(|| Called { name: call.name.clone(), namespace: None, kind: Kind::Function })
    }

    /// The item that a part is, at the place under way.
    fn item(&self, head: &Head, part: &Part, status: Status) -> OutputItem {
        match part {
            Part::Text(text) => OutputItem::Message {
                id: self.item_id(head, "msg"),
                status,
                role: "assistant",
                content: vec![text_part(text)],
            },
            Part::Thinking(thinking) => OutputItem::Reasoning {
                id: self.item_id(head, "rs"),
                status,
                summary: vec![SummaryPart::SummaryText { text: thinking.clone() }],
                encrypted_content: (self.setting.seal == Seal::Wanted)
                    .then(|| self.setting.key.sign(thinking)),
            },
            Part::ToolCall(call) => {
                let Called { name, namespace, kind } = self.called(call);
                let call_id = format!("call_{}", call.id);
                match kind {
                    Kind::Function => OutputItem::FunctionCall {
                        id: self.item_id(head, "fc"),
                        status,
                        call_id,
                        name,
                        namespace,
                        arguments: call.arguments.clone(),
                    },
                    Kind::Custom => OutputItem::CustomToolCall {
                        id: self.item_id(head, "ctc"),
                        status,
                        call_id,
                        name,
                        namespace,
                        input: custom_input(&call.arguments),
                    },
                }
            }
        }
    }

    /// Begin the item of `part`, of which nothing is said yet.
    fn begin(&mut self, head: &Head, part: &Part, out: &mut String) {
        let output_index = self.output_index();
        let (empty, item) = match part {
            Part::Text(_) => {
                let id = self.item_id(head, "msg");
                let item = OutputItem::Message {
                    id,
                    status: Status::InProgress,
                    role: "assistant",
                    content: vec![],
                };
                (Part::Text(Text::default()), item)
            }
            Part::Thinking(_) => {
                let (id, status) = (self.item_id(head, "rs"), Status::InProgress);
                let item = OutputItem::Reasoning { id, status, summary: Vec::new(), encrypted_content: None };
                (Part::Thinking(String::new()), item)
            }
            Part::ToolCall(call) => {
                let empty = Part::ToolCall(CallPart { arguments: String::new(), ..call.clone() });
                let item = self.item(head, &empty, Status::InProgress);
                (empty, item)
            }
        };
        self.send("response.output_item.added", EventBody::Item { output_index, item }, out);
        match &empty {
            Part::Text(_) => {
                let (item_id, part) = (self.item_id(head, "msg"), text_part(&Text::default()));
                let body = EventBody::Part { item_id, output_index, content_index: 0, part };
                self.send("response.content_part.added", body, out);
            }
            Part::Thinking(_) => {
                let part = SummaryPart::SummaryText { text: String::new() };
                let item_id = self.item_id(head, "rs");
                let body = EventBody::Summary { item_id, output_index, summary_index: 0, part };
                self.send("response.reasoning_summary_part.added", body, out);
            }
            Part::ToolCall(_) => {}
        }
        self.open = Some(empty);
    }

    /// Say what a part adds to the item under way.
    fn add(&mut self, head: &Head, part: &Part, out: &mut String) {
        let output_index = self.output_index();
        match (&mut self.open, part) {
            (Some(Part::Text(before)), Part::Text(more)) => {
                before.join(more.clone());
                let (item_id, delta) = (self.item_id(head, "msg"), more.text.clone());
                let logprobs = logprobs(&more.scored);
                let body = EventBody::TextDelta { item_id, output_index, content_index: 0, delta, logprobs };
                self.send("response.output_text.delta", body, out);
            }
            (Some(Part::Thinking(before)), Part::Thinking(more)) => {
                before.push_str(more);
                let (item_id, delta) = (self.item_id(head, "rs"), more.clone());
                let body = EventBody::SummaryDelta { item_id, output_index, summary_index: 0, delta };
                self.send("response.reasoning_summary_text.delta", body, out);
            }
            (Some(Part::ToolCall(before)), Part::ToolCall(more)) => {
                before.arguments.push_str(&more.arguments);
                // A custom tool's input is known when its arguments are whole.
                if !more.arguments.is_empty() && self.called(more).kind == Kind::Function {
                    let (item_id, delta) = (self.item_id(head, "fc"), more.arguments.clone());
                    let body = EventBody::CallDelta { item_id, output_index, delta };
                    self.send("response.function_call_arguments.delta", body, out);
                }
            }
            _ => {}
        }
    }

    /// End the item under way.
    fn close(&mut self, head: &Head, status: Status, out: &mut String) {
        let Some(part) = self.open.take() else { return };
        let output_index = self.output_index();
        match &part {
            Part::Text(text) => {
                let (item_id, content_index) = (self.item_id(head, "msg"), 0);
                let logprobs = logprobs(&text.scored);
                let (text, part) = (text.text.clone(), text_part(text));
                let body = EventBody::TextDone {
                    item_id: item_id.clone(),
                    output_index,
                    content_index,
                    text,
                    logprobs,
                };
                self.send("response.output_text.done", body, out);
                let body = EventBody::Part { item_id, output_index, content_index, part };
                self.send("response.content_part.done", body, out);
            }
            Part::Thinking(thinking) => {
                let (item_id, summary_index, text) = (self.item_id(head, "rs"), 0, thinking.clone());
                let part = SummaryPart::SummaryText { text: text.clone() };
                let body =
                    EventBody::SummaryDone { item_id: item_id.clone(), output_index, summary_index, text };
                self.send("response.reasoning_summary_text.done", body, out);
                let body = EventBody::Summary { item_id, output_index, summary_index, part };
                self.send("response.reasoning_summary_part.done", body, out);
            }
            Part::ToolCall(call) => match self.called(call) {
                Called { kind: Kind::Custom, .. } => {
                    let (item_id, input) = (self.item_id(head, "ctc"), custom_input(&call.arguments));
                    let delta = input.clone();
                    let body = EventBody::CallDelta { item_id: item_id.clone(), output_index, delta };
                    self.send("response.custom_tool_call_input.delta", body, out);
                    let body = EventBody::InputDone { item_id, output_index, input };
                    self.send("response.custom_tool_call_input.done", body, out);
                }
                Called { name, .. } => {
                    let (item_id, arguments) = (self.item_id(head, "fc"), call.arguments.clone());
                    let body = EventBody::ArgumentsDone { item_id, output_index, name, arguments };
                    self.send("response.function_call_arguments.done", body, out);
                }
            },
        }
        let item = self.item(head, &part, status);
        self.send("response.output_item.done", EventBody::Item { output_index, item: item.clone() }, out);
        self.done(part, item);
    }

    /// Put an item to those that are done.
    fn done(&mut self, part: Part, item: OutputItem) {
        self.output.push(item);
        match part {
            Part::Text(text) => self.said.content.push_str(&text.text),
            Part::Thinking(thinking) => self.said.thinking.get_or_insert_default().push_str(&thinking),
            Part::ToolCall(CallPart { id, name, arguments, .. }) => {
                self.said.tool_calls.push(ToolCall { id: format!("call_{id}"), name, arguments });
            }
        }
    }
}

/// Whether `more` goes on with what `open` is.
fn goes_on(open: &Part, more: &Part) -> bool {
    match (open, more) {
        (Part::Text(_), Part::Text(_)) | (Part::Thinking(_), Part::Thinking(_)) => true,
        (Part::ToolCall(one), Part::ToolCall(other)) => one.index == other.index,
        _ => false,
    }
}

/// Whether a part has nothing to show.
fn is_empty(part: &Part) -> bool {
    match part {
        Part::Text(text) => text.text.is_empty() && text.scored.is_empty(),
        Part::Thinking(thinking) => thinking.is_empty(),
        Part::ToolCall(_) => false,
    }
}

fn response_id(head: &Head) -> String {
    format!("resp_{}", head.id)
}

fn text_part(text: &Text) -> OutputPart {
    OutputPart::OutputText { text: text.text.clone(), annotations: [], logprobs: logprobs(&text.scored) }
}

fn logprobs(scored: &[ScoredToken]) -> Vec<ChatLogprob> {
    scored.iter().map(ChatLogprob::new).collect()
}

/// How far the last item of an answer came that ended like this.
fn last_status(finish: &Finish) -> Status {
    if *finish == Finish::Length { Status::Incomplete } else { Status::Completed }
}

impl Writer for Events {
    fn media_type(&self) -> &'static str {
        EVENT_STREAM
    }

    fn open(&mut self, head: &Head, _: PromptTokens, out: &mut String) {
        for name in ["response.created", "response.in_progress"] {
            let response = self.response(head, Status::InProgress);
            self.send(name, EventBody::Response { response }, out);
        }
    }

    fn part(&mut self, head: &Head, part: &Part, out: &mut String) {
        if is_empty(part) {
            return;
        }
        if !self.open.as_ref().is_some_and(|open| goes_on(open, part)) {
            self.close(head, Status::Completed, out);
            self.begin(head, part, out);
        }
        self.add(head, part, out);
    }

    fn end(&mut self, head: &Head, end: &End, out: &mut String) {
        // Clients look for a message, also where it says nothing.
        if self.open.is_none() && self.output.is_empty() {
            self.begin(head, &Part::Text(Text::default()), out);
        }
        self.close(head, last_status(&end.finish), out);
        let response = self.ended(head, end);
        self.keep(&response);
        let name = match response.status {
            Status::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        self.send(name, EventBody::Response { response }, out);
    }

    fn break_off(&mut self, head: &Head, fault: &Fault, out: &mut String) {
        let error = ResponseError { code: fault.kind.name(), message: fault.message.clone() };
        let response = *self.response(head, Status::Failed);
        let response = Box::new(ResponseObject { error: Some(error), ..response });
        self.send("response.failed", EventBody::Response { response }, out);
    }

    fn prefill(&mut self, head: &Head, _: usize, _: usize, out: &mut String) {
        self.alive(head, out);
    }

    /// Coding agents count events, and a comment is none.
    fn alive(&mut self, head: &Head, out: &mut String) {
        let response = self.response(head, Status::InProgress);
        self.send("response.in_progress", EventBody::Response { response }, out);
    }

    fn whole(&mut self, head: &Head, answer: Answer) -> String {
        let Answer { mut parts, end, .. } = answer;
        parts.retain(|part| !is_empty(part));
        if parts.is_empty() {
            parts.push(Part::Text(Text::default()));
        }
        let n_parts = parts.len();
        for (i, part) in parts.into_iter().enumerate() {
            let status = if i + 1 == n_parts { last_status(&end.finish) } else { Status::Completed };
            let item = self.item(head, &part, status);
            self.done(part, item);
        }
        let response = self.ended(head, &end);
        self.keep(&response);
        json(&response)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::calls::answer::{Times, Usage};

    fn head() -> Head {
        Head { id: "7".to_owned(), created: 7, model: "m".to_owned(), fingerprint: [0xab; 32] }
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    /// A writer of a call with a function, one in a namespace, and a custom tool.
    fn writer() -> Events {
        let asked = AskedFor {
            background: false,
            instructions: None,
            max_output_tokens: None,
            metadata: raw("{}"),
            parallel_tool_calls: true,
            previous_response_id: None,
            prompt_cache_key: None,
            reasoning: raw("{}"),
            service_tier: "default",
            store: false,
            temperature: None,
            text: raw("{}"),
            tool_choice: raw("\"auto\""),
            tools: raw("[]"),
            top_logprobs: 0,
            top_p: None,
            truncation: "disabled",
        };
        let called = |name: &str, namespace: Option<&str>, kind| Called {
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            kind,
        };
        let called = BTreeMap::from([
            ("shell".to_owned(), called("shell", None, Kind::Function)),
            ("multi__spawn".to_owned(), called("spawn", Some("multi"), Kind::Function)),
            ("apply_patch".to_owned(), called("apply_patch", None, Kind::Custom)),
        ]);
        let key = SigningKey::new([7; 32]);
        Events::new(Setting { asked, called, key, seal: Seal::Wanted, keeping: None })
    }

    fn call(index: usize, name: &str, arguments: &str) -> Part {
        let (id, name, arguments) = (format!("c{index}"), name.to_owned(), arguments.to_owned());
        Part::ToolCall(CallPart { index, id, name, arguments })
    }

    fn parts() -> Vec<Part> {
        let text = |text: &str| Part::Text(Text { text: text.to_owned(), scored: Vec::new() });
        vec![
            Part::Thinking("let ".into()),
            Part::Thinking("me see".into()),
            text("I'll "),
            text("look"),
            call(0, "shell", ""),
            call(0, "shell", "{\"a\""),
            call(0, "shell", ": 1}"),
            call(1, "multi__spawn", "{}"),
            call(2, "apply_patch", "{\"input\": \"*** "),
            call(2, "apply_patch", "Begin\\n\"}"),
        ]
    }

    fn end() -> End {
        let usage = Usage { n_prompt: 9, n_reused: 4, n_generated: 6, n_thinking: 2 };
        End { finish: Finish::ToolCalls, usage, times: Times::default() }
    }

    fn streamed() -> Vec<Value> {
        let (mut writer, mut out) = (writer(), String::new());
        writer.open(&head(), PromptTokens::default(), &mut out);
        parts().iter().for_each(|part| writer.part(&head(), part, &mut out));
        writer.end(&head(), &end(), &mut out);
        let data = out.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[test]
    fn reasoning_text_and_calls_are_items_one_after_the_other() {
        let events = streamed();
        let types: Vec<&str> = events
            .iter()
            .map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap())
            .collect();
        let want = "created in_progress \
            output_item.added reasoning_summary_part.added reasoning_summary_text.delta reasoning_summary_text.delta \
            reasoning_summary_text.done reasoning_summary_part.done output_item.done \
            output_item.added content_part.added output_text.delta output_text.delta output_text.done \
            content_part.done output_item.done \
            output_item.added function_call_arguments.delta function_call_arguments.delta \
            function_call_arguments.done output_item.done \
            output_item.added function_call_arguments.delta function_call_arguments.done output_item.done \
            output_item.added custom_tool_call_input.delta custom_tool_call_input.done output_item.done \
            completed";
        assert_eq!(types, want.split_whitespace().collect::<Vec<_>>());
        assert!(events.iter().enumerate().all(|(n, event)| event["sequence_number"] == n));

        let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
        let done: Vec<&Value> = done.map(|event| &event["item"]).collect();
        assert_eq!(events.last().unwrap()["response"]["output"], json!(done));
        let seal = SigningKey::new([7; 32]).sign("let me see");
        let want = [
            json!({"type": "reasoning", "id": "rs_700", "status": "completed", "encrypted_content": seal,
                   "summary": [{"type": "summary_text", "text": "let me see"}]}),
            json!({"type": "message", "id": "msg_701", "status": "completed", "role": "assistant", "content":
                   [{"type": "output_text", "text": "I'll look", "annotations": [], "logprobs": []}]}),
            json!({"type": "function_call", "id": "fc_702", "status": "completed", "call_id": "call_c0",
                   "name": "shell", "arguments": "{\"a\": 1}"}),
            json!({"type": "function_call", "id": "fc_703", "status": "completed", "call_id": "call_c1",
                   "name": "spawn", "namespace": "multi", "arguments": "{}"}),
            json!({"type": "custom_tool_call", "id": "ctc_704", "status": "completed", "call_id": "call_c2",
                   "name": "apply_patch", "input": "*** Begin\n"}),
        ];
        assert_eq!(done, want.iter().collect::<Vec<_>>());
        // What belongs to an item names it, and its deltas add up to it.
        for (i, item) in want.iter().enumerate() {
            let of_item = || events.iter().filter(|event| event["output_index"] == i);
            assert!(of_item().all(|event| event.get("item_id").is_none_or(|id| *id == item["id"])));
            let deltas: String = of_item().filter_map(|event| event["delta"].as_str()).collect();
            let all = item.to_string();
            assert!(all.contains(&json!(deltas).to_string()), "{deltas} {all}");
        }
    }

    #[test]
    fn a_whole_response_has_the_items_that_a_stream_builds() {
        let mut whole = Vec::new();
        parts().into_iter().for_each(|part| crate::calls::answer::join(&mut whole, part));
        let whole =
            writer().whole(&head(), Answer { prompt: PromptTokens::default(), parts: whole, end: end() });
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(whole, streamed().last().unwrap()["response"]);
        assert_eq!(whole["usage"]["output_tokens_details"]["reasoning_tokens"], 2);
    }
}
