//! `POST /v1/chat/completions`.

use serde::Serialize;
use text::{Chat, ChatMessage};
use utoipa::ToSchema;

use super::calls::{Call, CallDelta, Function, FunctionDelta};
use super::chunks::{Choice, Chunks, FinishReason};
use super::logprobs::ChatLogprobs;
use super::messages::take_messages;
use super::parameters::{LengthFields, Parameters};
use super::response_format::take_response_format;
use super::template_variables::{take_template_variables, take_thinking};
use super::tools::{Wording, take_tools};
use crate::calls::answer::{Finish, Part, Text};
use crate::calls::call::{self, Names, Prompt};
use crate::calls::fault::Fault;
use crate::dialects::dialect::Asked;
use crate::dialects::fields::Fields;

/// Most rivals that log-probabilities are reported with.
const MAX_TOP_LOGPROBS: usize = 20;
/// The bound on an answer's length has two names.
const LENGTH: LengthFields = LengthFields { names: &["max_tokens", "max_completion_tokens"], default: None };

const NAMES: Names = Names { prompt: "messages", ..super::parameters::NAMES };

/// A body as a call.
pub(crate) fn parse(body: &[u8]) -> Result<Asked, Fault> {
    let mut fields = Fields::of_body(body)?;
    let messages = take_messages(&mut fields)?;
    let parameters = Parameters::take(&mut fields, LENGTH)?;
    let top_logprobs = take_logprobs(&mut fields)?;
    let format = take_response_format(&mut fields)?;

    let continue_final = fields.take::<bool>("continue_final_message")?;
    let add_generation_prompt = fields.take::<bool>("add_generation_prompt")?;
    // An answer that comes last is one to go on with, as with other servers, unless the client says what it wants.
    let continue_final =
        continue_final.unwrap_or(add_generation_prompt.is_none() && ends_within_answer(&messages));
    if continue_final && add_generation_prompt == Some(true) {
        let message = "cannot be true together with 'continue_final_message'";
        return Err(Fault::invalid("add_generation_prompt", message));
    }

    let extra = take_template_variables(&mut fields)?;
    let thinking = take_thinking(&mut fields)?;
    let (tools, wording) = take_tools(&mut fields)?;
    refuse_the_rest(&mut fields)?;
    fields.finish()?;
    let chat = Chat {
        messages,
        add_generation_prompt: add_generation_prompt.unwrap_or(!continue_final),
        continue_final,
        tools: Vec::new(),
        extra,
    };
    let choice = |index| ChatAnswer::new(index, top_logprobs.is_some(), wording);
    let choices = (0..=parameters.sampling.n_more).map(choice).collect();
    let writer = Chunks::new(choices, parameters.include_usage);
    let delivery = parameters.delivery;
    let call = parameters.into_call(Prompt::Chat(chat), format, top_logprobs, NAMES);
    let call = call::Call { tools, thinking, ..call };
    Ok(Asked { call, delivery, writer: Box::new(writer) })
}

/// Whether the last message is an answer that says something and calls nothing.
fn ends_within_answer(messages: &[ChatMessage]) -> bool {
    messages
        .last()
        .is_some_and(|last| last.role == ASSISTANT && !last.content.is_empty() && last.tool_calls.is_empty())
}

/// How many rivals to report, where `logprobs` asks for log-probabilities at all.
fn take_logprobs(fields: &mut Fields<'_>) -> Result<Option<usize>, Fault> {
    let wanted = fields.take::<bool>("logprobs")?.unwrap_or(false);
    match fields.take_whole_within("top_logprobs", 0..=MAX_TOP_LOGPROBS)? {
        Some(n) if n > 0 && !wanted => {
            Err(Fault::invalid("top_logprobs", "only allowed when 'logprobs' is true"))
        }
        n => Ok(wanted.then(|| n.unwrap_or(0))),
    }
}

/// What OpenAI's API has and this server does not do yet, or never; each is refused by name, and values that ask
/// for what happens anyway pass.
fn refuse_the_rest(fields: &mut Fields<'_>) -> Result<(), Fault> {
    fields.refuse("modalities", &["[\"text\"]"])?;
    fields.refuse("audio", &[])?;
    // What the answer may look like: it could only come sooner for that, and says the same.
    fields.pass(|name| name == "prediction");
    fields.refuse("web_search_options", &[])
}

/// How a chat writes a choice.
#[derive(Debug)]
pub(crate) struct ChatAnswer {
    index: usize,
    with_logprobs: bool,
    wording: Wording,
    /// The calls that have a chunk.
    n_calls: usize,
}

/// The choice of a whole chat completion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    index: usize,
    message: AssistantMessage,
    logprobs: Option<ChatLogprobs>,
    finish_reason: FinishReason,
}

/// What the model answers.
#[derive(Debug, Serialize, ToSchema)]
struct AssistantMessage {
    role: &'static str,
    /// `null` where the model calls functions and says nothing.
    content: Option<String>,
    /// What it thought before.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
    /// For clients that offer functions in the older wording.
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Function>,
    /// Always `null`.
    refusal: Option<String>,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    annotations: [(); 0],
}

/// The choice of a chunk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<FinishReason>,
}

/// What a chunk adds to the message.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// More of what it thinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    /// More of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallDelta; 1]>,
    /// The same, for clients that offer functions in the older wording.
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionDelta>,
}

const ASSISTANT: &str = "assistant";

impl ChatAnswer {
    /// Writes the choice of this index for a client that offers functions in this wording.
    pub(crate) fn new(index: usize, with_logprobs: bool, wording: Wording) -> ChatAnswer {
        ChatAnswer { index, with_logprobs, wording, n_calls: 0 }
    }

    fn logprobs(&self, text: &Text) -> Option<ChatLogprobs> {
        self.with_logprobs.then(|| ChatLogprobs::new(&text.scored))
    }

    fn finish(&self, finish: &Finish) -> FinishReason {
        match (finish.into(), self.wording) {
            (FinishReason::ToolCalls, Wording::Functions) => FinishReason::FunctionCall,
            (finish, _) => finish,
        }
    }
}

impl Choice for ChatAnswer {
    const ID_PREFIX: &'static str = "chatcmpl";
    const WHOLE: &'static str = "chat.completion";
    const CHUNK: &'static str = "chat.completion.chunk";
    type Whole = ChatChoice;
    type Chunk = ChatChunkChoice;

    fn opening(&mut self) -> Option<ChatChunkChoice> {
        let delta = Delta { role: Some(ASSISTANT), content: Some(String::new()), ..Delta::default() };
        Some(ChatChunkChoice { index: self.index, delta, logprobs: None, finish_reason: None })
    }

    fn delta(&mut self, part: &Part) -> Option<ChatChunkChoice> {
        let mut logprobs = None;
        let delta = match part {
            Part::Text(text) => {
                let something = !text.text.is_empty() || (self.with_logprobs && !text.scored.is_empty());
                if !something {
                    return None;
                }
                logprobs = self.logprobs(text);
                Delta { content: Some(text.text.clone()), ..Delta::default() }
            }
            Part::Thinking(text) => Delta { reasoning_content: Some(text.clone()), ..Delta::default() },
            Part::ToolCall(call) => {
                let begins = call.index >= self.n_calls;
                self.n_calls = self.n_calls.max(call.index + 1);
                match self.wording {
                    Wording::Tools => {
                        Delta { tool_calls: Some([CallDelta::new(call, begins)]), ..Delta::default() }
                    }
                    Wording::Functions => {
                        let delta = FunctionDelta::new(call, begins);
                        Delta { function_call: Some(delta), ..Delta::default() }
                    }
                }
            }
        };
        Some(ChatChunkChoice { index: self.index, delta, logprobs, finish_reason: None })
    }

    fn last(&mut self, finish: &Finish) -> ChatChunkChoice {
        let finish_reason = Some(self.finish(finish));
        ChatChunkChoice { index: self.index, delta: Delta::default(), logprobs: None, finish_reason }
    }

    fn whole(&mut self, parts: Vec<Part>, finish: &Finish) -> ChatChoice {
        let (mut text, mut thoughts, mut calls) = (Text::default(), String::new(), Vec::new());
        for part in parts {
            match part {
                Part::Text(more) => text.join(more),
                Part::Thinking(more) => thoughts.push_str(&more),
                Part::ToolCall(call) => calls.push(call),
            }
        }
        let logprobs = self.logprobs(&text);
        let says_something = calls.is_empty() || !text.text.is_empty();
        let function_call = match self.wording {
            Wording::Tools => None,
            Wording::Functions => calls.drain(..).next().map(Function::from),
        };
        let message = AssistantMessage {
            role: ASSISTANT,
            content: says_something.then_some(text.text),
            reasoning_content: (!thoughts.is_empty()).then_some(thoughts),
            tool_calls: calls.into_iter().map(Call::from).collect(),
            function_call,
            refusal: None,
            annotations: [],
        };
        ChatChoice { index: self.index, message, logprobs, finish_reason: self.finish(finish) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fault::status;
    use super::*;

    /// A body with a message and `more` fields.
    fn call(more: &str) -> Result<Asked, Fault> {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        parse(body.as_bytes())
    }

    #[test]
    fn logprobs_are_asked_for_by_two_fields() {
        let top = |more: &str| call(more).unwrap().call.top_logprobs;
        assert_eq!(top(""), None);
        assert_eq!(top(r#","logprobs":false,"top_logprobs":0"#), None);
        assert_eq!(top(r#","logprobs":true"#), Some(0));
        assert_eq!(top(r#","logprobs":true,"top_logprobs":20"#), Some(20));
    }

    #[test]
    fn both_names_of_the_token_limit_mean_the_same() {
        let most = |more: &str| call(more).unwrap().call.max_tokens;
        assert_eq!(most(r#","max_completion_tokens":5"#), Some(5));
        assert_eq!(most(r#","max_tokens":6"#), Some(6));
        assert_eq!(most(r#","max_tokens":6,"max_completion_tokens":6"#), Some(6));
        assert_eq!(most(r#","max_completion_tokens":-1"#), None);
    }

    #[test]
    fn a_final_message_is_continued_on_request() {
        let flags = |more: &str| {
            let Prompt::Chat(chat) = call(more).unwrap().call.prompt else { panic!("a chat") };
            (chat.add_generation_prompt, chat.continue_final)
        };
        assert_eq!(flags(""), (true, false));
        assert_eq!(flags(r#","add_generation_prompt":false"#), (false, false));
        assert_eq!(flags(r#","continue_final_message":true"#), (false, true));
        let last = |message: &str, more: &str| {
            let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}},{message}]{more}}}"#);
            let Prompt::Chat(chat) = parse(body.as_bytes()).unwrap().call.prompt else { panic!("a chat") };
            (chat.add_generation_prompt, chat.continue_final)
        };
        let answer = r#"{"role":"assistant","content":"Well,"}"#;
        assert_eq!(last(answer, ""), (false, true));
        assert_eq!(last(answer, r#","continue_final_message":false"#), (true, false));
        assert_eq!(last(answer, r#","add_generation_prompt":true"#), (true, false));
        assert_eq!(last(r#"{"role":"assistant","content":""}"#, ""), (true, false));
        let call = r#"{"role":"assistant","content":"x","tool_calls":[{"function":{"name":"f"}}]}"#;
        assert_eq!(last(call, ""), (true, false));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (more, param) in [
            (r#","tools":[{"type":"function"}]"#, "tools[0].function"),
            (r#","functions":[{}]"#, "functions[0].name"),
            (
                r#","response_format":{"type":"json_schema","json_schema":{}}"#,
                "response_format.json_schema.schema",
            ),
            (r#","response_format":{"type":"xml"}"#, "response_format.type"),
            (r#","modalities":["text","audio"]"#, "modalities"),
            (r#","modalities":[]"#, "modalities"),
            (r#","parallel_tool_calls":"yes""#, "parallel_tool_calls"),
            (r#","store":1"#, "store"),
            (r#","reasoning_effort":"hard""#, "reasoning_effort"),
            (r#","verbosity":"chatty""#, "verbosity"),
            (r#","chat_template_kwargs":[]"#, "chat_template_kwargs"),
            (r#","chat_template_kwargs":{"messages":[]}"#, "chat_template_kwargs.messages"),
            (r#","max_completion_tokens":-2"#, "max_completion_tokens"),
            (r#","top_logprobs":3"#, "top_logprobs"),
            (r#","logprobs":true,"top_logprobs":21"#, "top_logprobs"),
            (r#","max_tokens":5,"max_completion_tokens":6"#, "max_completion_tokens"),
            (r#","continue_final_message":true,"add_generation_prompt":true"#, "add_generation_prompt"),
            (r#","prompt":"x""#, "prompt"),
            (r#","chat_template":"{{ x }}""#, "chat_template"),
        ] {
            let error = call(more).err().unwrap();
            assert_eq!((status(error.kind).as_u16(), error.place.as_deref()), (400, Some(param)), "{more}");
        }
    }

    #[test]
    fn values_that_ask_for_what_happens_anyway_pass_however_they_are_written() {
        for more in [
            r#","n":1,"tools":[],"tool_choice":"auto","response_format":{"type":"text"},"store":false"#,
            r#","service_tier":"auto","modalities":["text"],"metadata":{"a":"b"},"user":"u""#,
            r#","tools":[ ],"n":1.0,"modalities":[ "text" ],"functions":[
                ]"#,
            r#","tool_choice":"n\u006fne","function_call":"auto""#,
            r#","tools":null,"tool_choice":null,"audio":null,"prediction":null,"something_new":null"#,
            r#","prediction":{"type":"content","content":[{"type":"text","text":"let x = 1;"}]}"#,
            r#","parallel_tool_calls":true"#,
            r#","parallel_tool_calls":false,"store":true,"service_tier":"priority""#,
            r#","verbosity":"low","reasoning_effort":"minimal","prompt_cache_retention":"24h""#,
            r#","max_completion_tokens":4.0,"max_tokens":4,"top_logprobs":0.0"#,
        ] {
            assert!(call(more).is_ok(), "{more} {:?}", call(more).err());
        }
    }

    #[test]
    fn variables_for_the_template_go_with_the_chat() {
        let Prompt::Chat(chat) =
            call(r#","chat_template_kwargs":{"enable_thinking":false}"#).unwrap().call.prompt
        else {
            panic!("a chat")
        };
        assert_eq!(Value::Object(chat.extra), json!({"enable_thinking": false}));
    }
}
