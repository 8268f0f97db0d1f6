//! How an answer is written: as one message of blocks, or as events that build it.

use super::diagnostics::Diagnosis;
use super::fault::AnthropicError;
use super::objects::{AnswerBlock, BlockDelta, MessageAnswer, MessageEnd, MessageEvent, StopReason};
use crate::calls::answer::{self, Answer, CallPart, End, Finish, Head, Part, PromptTokens};
use crate::calls::fault::Fault;
use crate::calls::signing_key::SigningKey;
use crate::dialects::arguments::as_object;
use crate::dialects::dialect::Writer;
use crate::dialects::sse::{EVENT_STREAM, json, named};

/// Whether an answer shows what the model thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Display {
    Shown,
    /// A block says that it thought, and nothing of what.
    Omitted,
    /// Nobody asked for it, and clients that do not expect such a block take the first one for the answer's text. Some
    /// models think all the same.
    Hidden,
}

/// Writes the answers of one call.
pub(crate) struct Blocks {
    key: SigningKey,
    display: Display,
    /// The bound that the call set.
    max_tokens: usize,
    /// What the call wants to be told of what was not reused.
    diagnosis: Option<Diagnosis>,
    /// The place of the block under way, or of the next one.
    index: usize,
    open: Option<Open>,
}

/// The block under way.
#[derive(Debug, PartialEq, Eq)]
enum Open {
    Text,
    /// With all that was shown of it, which is signed at its end.
    Thinking(String),
    /// The number of the call.
    ToolUse(usize),
}

impl Blocks {
    pub(crate) fn new(
        key: SigningKey,
        display: Display,
        max_tokens: usize,
        diagnosis: Option<Diagnosis>,
    ) -> Blocks {
        Blocks { key, display, max_tokens, diagnosis, index: 0, open: None }
    }

    /// Why an answer ended, and which stop sequence came.
    fn reason(&self, end: &End) -> (StopReason, Option<String>) {
        match &end.finish {
            Finish::EndOfTurn => (StopReason::EndTurn, None),
            Finish::ToolCalls => (StopReason::ToolUse, None),
            Finish::StopString(stop) => (StopReason::StopSequence, Some(stop.clone())),
            // It was not the call's bound.
            Finish::Length if end.usage.n_generated < self.max_tokens => {
                (StopReason::ModelContextWindowExceeded, None)
            }
            Finish::Length => (StopReason::MaxTokens, None),
        }
    }

    /// Whether the answer says nothing of a part.
    fn hides(&self, part: &Part) -> bool {
        matches!(part, Part::Thinking(_)) && self.display == Display::Hidden
    }

    fn message(
        &self,
        head: &Head,
        prompt: PromptTokens,
        (content, usage): (Vec<AnswerBlock>, answer::Usage),
    ) -> MessageAnswer {
        let id = format!("msg_{}", head.id);
        let diagnosis = self.diagnosis.as_ref();
        MessageAnswer {
            diagnostics: diagnosis.and_then(|diagnosis| diagnosis.tell(&id, &head.fingerprint, prompt)),
            id,
            r#type: "message",
            role: "assistant",
            model: head.model.clone(),
            content,
            stop_reason: None,
            stop_sequence: None,
            stop_details: None,
            usage: usage.into(),
        }
    }

    /// A whole part as a block; none where it says nothing.
    fn block(&self, part: Part) -> Option<AnswerBlock> {
        match part {
            Part::Text(text) if text.text.is_empty() => None,
            Part::Text(text) => Some(AnswerBlock::Text { text: text.text, citations: None }),
            Part::Thinking(thinking) if thinking.is_empty() => None,
            Part::Thinking(thinking) => {
                let thinking = match self.display {
                    Display::Shown => thinking,
                    Display::Omitted | Display::Hidden => String::new(),
                };
                Some(AnswerBlock::Thinking { signature: self.key.sign(&thinking), thinking })
            }
            Part::ToolCall(call) => Some(AnswerBlock::ToolUse {
                id: tool_use_id(&call.id),
                name: call.name,
                input: as_object(&call.arguments),
            }),
        }
    }

    /// Begin a block, unless it is the one under way.
    fn begin(&mut self, open: Open, block: impl FnOnce() -> AnswerBlock, out: &mut String) {
        let goes_on = match (&self.open, &open) {
            (Some(Open::Text), Open::Text) | (Some(Open::Thinking(_)), Open::Thinking(_)) => true,
            (Some(Open::ToolUse(one)), Open::ToolUse(other)) => one == other,
            _ => false,
        };
        if goes_on {
            return;
        }
        self.close(out);
        event(out, &MessageEvent::ContentBlockStart { index: self.index, content_block: block() });
        self.open = Some(open);
    }

    fn delta(&self, delta: BlockDelta, out: &mut String) {
        event(out, &MessageEvent::ContentBlockDelta { index: self.index, delta });
    }

    fn close(&mut self, out: &mut String) {
        let Some(open) = self.open.take() else { return };
        if let Open::Thinking(shown) = open {
            self.delta(BlockDelta::Signature { signature: self.key.sign(&shown) }, out);
        }
        event(out, &MessageEvent::ContentBlockStop { index: self.index });
        self.index += 1;
    }

    fn think(&mut self, thinking: &str, out: &mut String) {
        let begun = || AnswerBlock::Thinking { thinking: String::new(), signature: String::new() };
        self.begin(Open::Thinking(String::new()), begun, out);
        if self.display == Display::Omitted {
            return;
        }
        if let Some(Open::Thinking(shown)) = &mut self.open {
            shown.push_str(thinking);
        }
        self.delta(BlockDelta::Thinking { thinking: thinking.to_owned() }, out);
    }

    fn call(&mut self, call: &CallPart, out: &mut String) {
        let begun = || AnswerBlock::ToolUse {
            id: tool_use_id(&call.id),
            name: call.name.clone(),
            input: as_object(""),
        };
        self.begin(Open::ToolUse(call.index), begun, out);
        if !call.arguments.is_empty() {
            self.delta(BlockDelta::InputJson { partial_json: call.arguments.clone() }, out);
        }
    }
}

impl Writer for Blocks {
    fn media_type(&self) -> &'static str {
        EVENT_STREAM
    }

    fn open(&mut self, head: &Head, prompt: PromptTokens, out: &mut String) {
        let PromptTokens { n_prompt, n_reused, .. } = prompt;
        let usage = answer::Usage { n_prompt, n_reused, ..answer::Usage::default() };
        event(out, &MessageEvent::MessageStart { message: self.message(head, prompt, (Vec::new(), usage)) });
    }

    fn part(&mut self, _: &Head, part: &Part, out: &mut String) {
        match part {
            hidden if self.hides(hidden) => {}
            Part::Text(text) if text.text.is_empty() => {}
            Part::Text(text) => {
                let begun = || AnswerBlock::Text { text: String::new(), citations: None };
                self.begin(Open::Text, begun, out);
                self.delta(BlockDelta::Text { text: text.text.clone() }, out);
            }
            Part::Thinking(thinking) if thinking.is_empty() => {}
            Part::Thinking(thinking) => self.think(thinking, out),
            Part::ToolCall(call) => self.call(call, out),
        }
    }

    fn end(&mut self, _: &Head, end: &End, out: &mut String) {
        self.close(out);
        let (stop_reason, stop_sequence) = self.reason(end);
        let delta = MessageEnd { stop_reason, stop_sequence, stop_details: None };
        event(out, &MessageEvent::MessageDelta { delta, usage: end.usage.into() });
        event(out, &MessageEvent::MessageStop);
    }

    fn break_off(&mut self, _: &Head, fault: &Fault, out: &mut String) {
        named(out, "error", &json(&AnthropicError::new(fault, None)));
    }

    fn prefill(&mut self, head: &Head, _: usize, _: usize, out: &mut String) {
        self.alive(head, out);
    }

    /// Clients that count events see no comments.
    fn alive(&mut self, _: &Head, out: &mut String) {
        event(out, &MessageEvent::Ping);
    }

    fn whole(&mut self, head: &Head, answer: Answer) -> String {
        let (stop_reason, stop_sequence) = self.reason(&answer.end);
        let shown = answer.parts.into_iter().filter(|part| !self.hides(part));
        // What stood around thinking that is hidden is one text, as it is in a stream.
        let mut parts = Vec::new();
        shown.for_each(|part| answer::join(&mut parts, part));
        let content = parts.into_iter().filter_map(|part| self.block(part)).collect();
        let message = self.message(head, answer.prompt, (content, answer.end.usage));
        json(&MessageAnswer { stop_reason: Some(stop_reason), stop_sequence, ..message })
    }
}

fn event(out: &mut String, event: &MessageEvent) {
    named(out, event.name(), &json(event));
}

fn tool_use_id(id: &str) -> String {
    format!("toolu_{id}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::calls::answer::{Text, Times, Usage};

    const HEAD: Head = Head { id: String::new(), created: 7, model: String::new(), fingerprint: [0xab; 32] };

    fn writer(display: Display) -> Blocks {
        Blocks::new(SigningKey::new([7; 32]), display, 100, None)
    }

    fn text(text: &str) -> Part {
        Part::Text(Text { text: text.to_owned(), scored: Vec::new() })
    }

    fn call(index: usize, name: &str, arguments: &str) -> Part {
        let (id, name, arguments) = (format!("c{index}"), name.to_owned(), arguments.to_owned());
        Part::ToolCall(CallPart { index, id, name, arguments })
    }

    fn end(finish: Finish) -> End {
        let usage = Usage { n_prompt: 9, n_reused: 4, n_generated: 6, n_thinking: 2 };
        End { finish, usage, times: Times::default() }
    }

    /// The events of an answer of these parts: name and data of each.
    fn events(display: Display, parts: &[Part], finish: Finish) -> Vec<(String, Value)> {
        let mut out = String::new();
        let mut writer = writer(display);
        writer.open(&HEAD, PromptTokens { n_prompt: 9, n_reused: 4, missed: None }, &mut out);
        parts.iter().for_each(|part| writer.part(&HEAD, part, &mut out));
        writer.end(&HEAD, &end(finish), &mut out);
        let frames = out.trim_end().split("\n\n").map(|frame| {
            let (name, data) = frame.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            let name = name.strip_prefix("event: ").unwrap().to_owned();
            assert_eq!(data["type"], name.as_str());
            (name, data)
        });
        frames.collect()
    }

    /// A line an event, without what is the same in all.
    fn show(events: &[(String, Value)]) -> String {
        let lines = events.iter().filter_map(|(name, data)| match name.as_str() {
            "content_block_start" => Some(format!("{} {}", data["index"], data["content_block"])),
            "content_block_delta" => Some(format!("{} + {}", data["index"], data["delta"])),
            "content_block_stop" => Some(format!("{} .", data["index"])),
            _ => None,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn thinking_text_and_calls_are_blocks_one_after_the_other() {
        let parts = [
            Part::Thinking("so ".into()),
            Part::Thinking("so".into()),
            text(""),
            text("I'll "),
            text("look"),
            call(0, "w", ""),
            call(0, "w", "{\"a\""),
            call(0, "w", ": 1}"),
            call(1, "x", "{}"),
        ];
        let events = events(Display::Shown, &parts, Finish::ToolCalls);
        let signature = SigningKey::new([7; 32]).sign("so so");
        let want = format!(
            r#"0 {{"type":"thinking","thinking":"","signature":""}}
0 + {{"type":"thinking_delta","thinking":"so "}}
0 + {{"type":"thinking_delta","thinking":"so"}}
0 + {{"type":"signature_delta","signature":"{signature}"}}
0 .
1 {{"type":"text","text":"","citations":null}}
1 + {{"type":"text_delta","text":"I'll "}}
1 + {{"type":"text_delta","text":"look"}}
1 .
2 {{"type":"tool_use","id":"toolu_c0","name":"w","input":{{}}}}
2 + {{"type":"input_json_delta","partial_json":"{{\"a\""}}
2 + {{"type":"input_json_delta","partial_json":": 1}}"}}
2 .
3 {{"type":"tool_use","id":"toolu_c1","name":"x","input":{{}}}}
3 + {{"type":"input_json_delta","partial_json":"{{}}"}}
3 ."#
        );
        assert_eq!(show(&events), want);
        let (first, last) = (&events[0], &events[events.len() - 2..]);
        assert_eq!(first.0, "message_start");
        let message = &first.1["message"];
        assert_eq!((&message["content"], &message["stop_reason"]), (&json!([]), &Value::Null));
        assert_eq!(message["usage"]["input_tokens"], 5);
        assert_eq!(message["usage"]["cache_read_input_tokens"], 4);
        assert_eq!(last[0].1["delta"]["stop_reason"], "tool_use");
        assert_eq!(last[0].1["usage"]["output_tokens"], 6);
        assert_eq!(last[1].0, "message_stop");
    }

    #[test]
    fn a_whole_answer_says_what_the_stream_adds_up_to() {
        let parts = vec![
            Part::Thinking("so so".into()),
            text("I'll look"),
            call(0, "w", "{\"b\": 1, \"a\": 2}"),
            call(1, "x", ""),
        ];
        let answer = Answer { prompt: PromptTokens::default(), parts, end: end(Finish::ToolCalls) };
        let whole = writer(Display::Shown).whole(&HEAD, answer);
        assert!(whole.contains(r#""input":{"b": 1, "a": 2}"#), "as the model wrote it: {whole}");
        let whole: Value = serde_json::from_str(&whole).unwrap();
        let signature = SigningKey::new([7; 32]).sign("so so");
        assert_eq!(
            whole["content"],
            json!([
                {"type": "thinking", "thinking": "so so", "signature": signature},
                {"type": "text", "text": "I'll look", "citations": null},
                {"type": "tool_use", "id": "toolu_c0", "name": "w", "input": {"b": 1, "a": 2}},
                {"type": "tool_use", "id": "toolu_c1", "name": "x", "input": {}}
            ])
        );
        assert_eq!(whole["usage"]["output_tokens_details"]["thinking_tokens"], 2);
    }

    #[test]
    fn omitted_thinking_leaves_a_signed_block_without_words() {
        let events =
            events(Display::Omitted, &[Part::Thinking("secret".into()), text("4")], Finish::EndOfTurn);
        let shown = show(&events);
        assert!(!shown.contains("secret") && shown.contains("signature_delta"), "{shown}");
        let answer = Answer {
            prompt: PromptTokens::default(),
            parts: vec![Part::Thinking("secret".into())],
            end: end(Finish::EndOfTurn),
        };
        assert!(!writer(Display::Omitted).whole(&HEAD, answer).contains("secret"));
    }

    #[test]
    fn thinking_that_nobody_asked_for_leaves_nothing_between_what_stands_around_it() {
        let parts = [Part::Thinking("secret".into()), text("a"), Part::Thinking("more".into()), text("b")];
        let shown = show(&events(Display::Hidden, &parts, Finish::EndOfTurn));
        let want = r#"0 {"type":"text","text":"","citations":null}
0 + {"type":"text_delta","text":"a"}
0 + {"type":"text_delta","text":"b"}
0 ."#;
        assert_eq!(shown, want);
        let answer =
            Answer { prompt: PromptTokens::default(), parts: parts.to_vec(), end: end(Finish::EndOfTurn) };
        let whole: Value = serde_json::from_str(&writer(Display::Hidden).whole(&HEAD, answer)).unwrap();
        assert_eq!(whole["content"], json!([{"type": "text", "text": "ab", "citations": null}]));
        assert_eq!(whole["usage"]["output_tokens_details"]["thinking_tokens"], 2);
    }

    #[test]
    fn an_answer_says_why_it_ended() {
        let reason = |finish: Finish, max_tokens: usize| {
            let writer = Blocks::new(SigningKey::new([7; 32]), Display::Shown, max_tokens, None);
            serde_json::to_value(writer.reason(&end(finish))).unwrap()
        };
        assert_eq!(reason(Finish::EndOfTurn, 9), json!(["end_turn", null]));
        assert_eq!(reason(Finish::StopString("END".into()), 9), json!(["stop_sequence", "END"]));
        assert_eq!(reason(Finish::Length, 6), json!(["max_tokens", null]));
        assert_eq!(reason(Finish::Length, 9), json!(["model_context_window_exceeded", null]));
        assert_eq!(reason(Finish::ToolCalls, 9), json!(["tool_use", null]));
    }
}
