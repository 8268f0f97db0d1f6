//! How an answer is written, whole and in chunks, and what the two calls have in common in that.
//!
//! An answer that ends well ends with `[DONE]`. One that does not ends with a frame `{"error": …}` and no
//! `[DONE]`: the official clients raise an error at that frame, and a client that does not know it sees a stream
//! that broke off instead of one that seems complete.

use serde::Serialize;
use utoipa::ToSchema;

use super::fault::ErrorBody;
use crate::calls::answer::{self, Answer, End, Finish, Head, Part, PromptTokens};
use crate::calls::fault::Fault;
use crate::dialects::dialect::Writer;
use crate::dialects::sse::{self, EVENT_STREAM, json};

/// How a call writes one of its choices.
pub(crate) trait Choice: Send {
    /// What an answer's id begins with.
    const ID_PREFIX: &'static str;
    /// `object` of a whole answer.
    const WHOLE: &'static str;
    /// `object` of a chunk.
    const CHUNK: &'static str;
    /// A choice of a whole answer.
    type Whole: Serialize;
    /// A choice of a chunk.
    type Chunk: Serialize;

    /// The choice of its first chunk, where there is one before what the model writes.
    fn opening(&mut self) -> Option<Self::Chunk>;

    /// The choice of a chunk that brings a part; none when there is nothing to bring.
    fn delta(&mut self, part: &Part) -> Option<Self::Chunk>;

    /// The choice of the chunk that says why the answer ended.
    fn last(&mut self, finish: &Finish) -> Self::Chunk;

    /// The choice of a whole answer.
    fn whole(&mut self, parts: Vec<Part>, finish: &Finish) -> Self::Whole;
}

/// Writes the answers of one call.
pub(crate) struct Chunks<C> {
    /// In their order.
    pub(crate) choices: Vec<C>,
    /// The one whose parts come now.
    turn: usize,
    /// Whether a last chunk tells the usage, and the others that they do not.
    pub(crate) include_usage: bool,
}

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Completion<C> {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<C>,
    usage: Usage,
}

/// A part of a streamed answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Chunk<C> {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<C>,
    /// Only with `stream_options.include_usage`: in a last chunk without choices, and `null` in all before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>, required = false)]
    usage: Option<Option<Usage>>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinishReason {
    /// The model was done, or a stop string came.
    Stop,
    /// The model waits for what its calls give.
    ToolCalls,
    /// The same, for clients that offer functions in the older wording.
    FunctionCall,
    /// The bound on its length, or the room that the context left.
    Length,
}

impl From<&Finish> for FinishReason {
    fn from(finish: &Finish) -> FinishReason {
        match finish {
            Finish::ToolCalls => FinishReason::ToolCalls,
            Finish::EndOfTurn | Finish::StopString(_) => FinishReason::Stop,
            Finish::Length => FinishReason::Length,
        }
    }
}

/// What a call took, in tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptTokensDetails,
    completion_tokens_details: CompletionTokensDetails,
}

#[derive(Debug, Serialize, ToSchema)]
struct PromptTokensDetails {
    /// Tokens that were really reused.
    cached_tokens: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct CompletionTokensDetails {
    /// Tokens that the model thought in.
    reasoning_tokens: usize,
}

impl From<answer::Usage> for Usage {
    fn from(usage: answer::Usage) -> Usage {
        Usage {
            prompt_tokens: usage.n_prompt,
            completion_tokens: usage.n_generated,
            total_tokens: usage.n_prompt + usage.n_generated,
            prompt_tokens_details: PromptTokensDetails { cached_tokens: usage.n_reused },
            completion_tokens_details: CompletionTokensDetails { reasoning_tokens: usage.n_thinking },
        }
    }
}

impl<C: Choice> Chunks<C> {
    /// Writes choices, one at least.
    pub(crate) fn new(choices: Vec<C>, include_usage: bool) -> Chunks<C> {
        Chunks { choices, turn: 0, include_usage }
    }

    fn chunk(&self, head: &Head, choice: Option<C::Chunk>, usage: Option<Option<Usage>>, out: &mut String) {
        let chunk = Chunk {
            id: id::<C>(head),
            object: C::CHUNK,
            created: head.created,
            model: head.model.clone(),
            system_fingerprint: system_fingerprint(head),
            choices: choice.into_iter().collect(),
            usage,
        };
        sse::data(out, &chunk);
    }

    /// A chunk with a choice, if there is one.
    fn with_choice(&self, head: &Head, choice: Option<C::Chunk>, out: &mut String) {
        if choice.is_some() {
            self.chunk(head, choice, self.include_usage.then_some(None), out);
        }
    }
}

fn id<C: Choice>(head: &Head) -> String {
    format!("{}-{}", C::ID_PREFIX, head.id)
}

fn system_fingerprint(head: &Head) -> String {
    let digits: String = head.fingerprint[..5].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("fp_{digits}")
}

impl<C: Choice> Writer for Chunks<C> {
    fn media_type(&self) -> &'static str {
        EVENT_STREAM
    }

    fn open(&mut self, head: &Head, _: PromptTokens, out: &mut String) {
        for turn in 0..self.choices.len() {
            let opening = self.choices[turn].opening();
            self.with_choice(head, opening, out);
        }
    }

    fn part(&mut self, head: &Head, part: &Part, out: &mut String) {
        let delta = self.choices[self.turn].delta(part);
        self.with_choice(head, delta, out);
    }

    fn turn_to(&mut self, choice: usize) {
        self.turn = choice;
    }

    fn end_one(&mut self, head: &Head, end: &End, out: &mut String) {
        let last = self.choices[self.turn].last(&end.finish);
        self.with_choice(head, Some(last), out);
    }

    fn end(&mut self, head: &Head, end: &End, out: &mut String) {
        self.end_one(head, end, out);
        if self.include_usage {
            self.chunk(head, None, Some(Some(end.usage.into())), out);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn break_off(&mut self, _: &Head, fault: &Fault, out: &mut String) {
        sse::data(out, &ErrorBody::new(fault));
    }

    fn prefill(&mut self, _: &Head, done: usize, total: usize, out: &mut String) {
        sse::comment(out, &format!("prefill {done}/{total}"));
    }

    fn alive(&mut self, _: &Head, out: &mut String) {
        sse::comment(out, "alive");
    }

    fn whole(&mut self, head: &Head, answer: Answer) -> String {
        let usage = answer.end.usage;
        self.whole_of(head, vec![answer], usage)
    }

    fn whole_of(&mut self, head: &Head, answers: Vec<Answer>, usage: answer::Usage) -> String {
        let choices = self.choices.iter_mut().zip(answers);
        json(&Completion {
            id: id::<C>(head),
            object: C::WHOLE,
            created: head.created,
            model: head.model.clone(),
            system_fingerprint: system_fingerprint(head),
            choices: choices.map(|(choice, answer)| choice.whole(answer.parts, &answer.end.finish)).collect(),
            usage: usage.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::chat::ChatAnswer;
    use super::super::tools::Wording;
    use super::*;
    use crate::calls::answer::{CallPart, Text};

    const HEAD: Head = Head { id: String::new(), created: 7, model: String::new(), fingerprint: [0xab; 32] };

    fn text(text: &str) -> Part {
        Part::Text(Text { text: text.to_owned(), scored: Vec::new() })
    }

    #[test]
    fn a_scripted_answer_is_written_in_chunks_and_whole() {
        let writer =
            |include_usage| Chunks::new(vec![ChatAnswer::new(0, false, Wording::Tools)], include_usage);
        let end = End {
            finish: Finish::StopString("c".into()),
            usage: answer::Usage { n_prompt: 5, n_reused: 3, n_generated: 2, n_thinking: 0 },
            times: answer::Times::default(),
        };
        let mut out = String::new();
        let mut streamed = writer(true);
        streamed.open(&HEAD, PromptTokens::default(), &mut out);
        streamed.prefill(&HEAD, 3, 5, &mut out);
        for part in [text("a"), text(""), text("b")] {
            streamed.part(&HEAD, &part, &mut out);
        }
        streamed.end(&HEAD, &end, &mut out);
        let frame = r#"{"id":"chatcmpl-","object":"chat.completion.chunk","created":7,"model":"","system_fingerprint":"fp_ababababab","choices""#;
        let want = r#"data: FRAME:[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}

: prefill 3/5

data: FRAME:[{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}],"usage":null}

data: FRAME:[{"index":0,"delta":{"content":"b"},"logprobs":null,"finish_reason":null}],"usage":null}

data: FRAME:[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}

data: FRAME:[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":0}}}

data: [DONE]

"#;
        assert_eq!(out.replace(frame, "FRAME"), want);

        let parts = vec![text("a"), text("b")];
        let whole: serde_json::Value = serde_json::from_str(
            &writer(false).whole(&HEAD, Answer { prompt: PromptTokens::default(), parts, end }),
        )
        .unwrap();
        assert_eq!(whole["choices"][0]["message"]["content"], "ab");
        assert_eq!(whole["object"], "chat.completion");
    }

    #[test]
    fn thoughts_and_calls_are_written_in_chunks_and_whole() {
        let call = |index: usize, arguments: &str| {
            Part::ToolCall(CallPart {
                index,
                id: format!("a{index}"),
                name: "f".into(),
                arguments: arguments.into(),
            })
        };
        let parts = [
            Part::Thinking("hm".into()),
            call(0, ""),
            call(0, "{\"a\":"),
            call(0, " 1}"),
            call(1, ""),
            call(1, "{}"),
        ];
        let usage = answer::Usage { n_prompt: 1, n_reused: 0, n_generated: 9, n_thinking: 4 };
        let end = End { finish: Finish::ToolCalls, usage, times: answer::Times::default() };
        let mut streamed = Chunks::new(vec![ChatAnswer::new(0, false, Wording::Tools)], false);
        let mut out = String::new();
        parts.iter().for_each(|part| streamed.part(&HEAD, part, &mut out));
        streamed.end(&HEAD, &end, &mut out);
        let deltas: Vec<String> = out
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line.strip_prefix("data: ")?).ok())
            .map(|chunk| format!("{} {}", chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]))
            .collect();
        let want = [
            r#"{"reasoning_content":"hm"} null"#,
            r#"{"tool_calls":[{"index":0,"id":"call_a0","type":"function","function":{"name":"f","arguments":""}}]} null"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]} null"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":" 1}"}}]} null"#,
            r#"{"tool_calls":[{"index":1,"id":"call_a1","type":"function","function":{"name":"f","arguments":""}}]} null"#,
            r#"{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]} null"#,
            r#"{} "tool_calls""#,
        ];
        assert_eq!(deltas, want);

        let mut joined = Vec::new();
        parts.iter().cloned().for_each(|part| answer::join(&mut joined, part));
        let whole = |wording, parts: &[Part], end: &End| -> serde_json::Value {
            let mut writer = Chunks::new(vec![ChatAnswer::new(0, false, wording)], false);
            let end = End { finish: end.finish.clone(), ..*end };
            serde_json::from_str(
                &writer.whole(&HEAD, Answer { prompt: PromptTokens::default(), parts: parts.to_vec(), end }),
            )
            .unwrap()
        };
        let answer = whole(Wording::Tools, &joined, &end);
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["content"], serde_json::Value::Null);
        assert_eq!(message["reasoning_content"], "hm");
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"a\": 1}");
        assert_eq!(message["tool_calls"][1]["id"], "call_a1");
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 4);

        let older = whole(Wording::Functions, &joined[..2], &end);
        let message = &older["choices"][0]["message"];
        assert_eq!(message["function_call"], serde_json::json!({"name": "f", "arguments": "{\"a\": 1}"}));
        assert_eq!(
            (older["choices"][0]["finish_reason"].as_str(), &message["tool_calls"]),
            (Some("function_call"), &serde_json::Value::Null)
        );
    }

    #[test]
    fn an_answer_that_breaks_off_does_not_look_complete() {
        let mut out = String::new();
        let mut writer = Chunks::new(vec![ChatAnswer::new(0, false, Wording::Tools)], true);
        writer.part(&HEAD, &text("a"), &mut out);
        writer.break_off(&HEAD, &Fault::internal("r-1", "words for the log"), &mut out);
        assert!(out.ends_with("\"code\":\"internal_error\"}}\n\n") && !out.contains("[DONE]"), "{out}");
        assert!(!out.contains("words for the log"), "{out}");
    }
}
