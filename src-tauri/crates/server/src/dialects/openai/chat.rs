//! `POST /v1/chat/completions`.

use serde::Serialize;
use text::Chat;
use utoipa::ToSchema;

use super::chunks::{Choices, Chunks, FinishReason};
use super::logprobs::ChatLogprobs;
use super::messages::take_messages;
use super::parameters::{LengthFields, Parameters};
use super::response_format::take_response_format;
use super::template_variables::take_template_variables;
use crate::calls::answer::Text;
use crate::calls::call::{Names, Prompt};
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

    let continue_final = fields.take("continue_final_message")?.unwrap_or(false);
    let add_generation_prompt = fields.take::<bool>("add_generation_prompt")?;
    if continue_final && add_generation_prompt == Some(true) {
        let message = "cannot be true together with 'continue_final_message'";
        return Err(Fault::invalid("add_generation_prompt", message));
    }

    let extra = take_template_variables(&mut fields)?;
    refuse_the_rest(&mut fields)?;
    fields.finish()?;
    let chat = Chat {
        messages,
        add_generation_prompt: add_generation_prompt.unwrap_or(!continue_final),
        continue_final,
        tools: Vec::new(),
        extra,
    };
    let choices = ChatChoices { with_logprobs: top_logprobs.is_some() };
    let writer = Chunks { choices, include_usage: parameters.include_usage };
    let delivery = parameters.delivery;
    let call = parameters.into_call(Prompt::Chat(chat), format, top_logprobs, NAMES);
    Ok(Asked { call, delivery, writer: Box::new(writer) })
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
    fields.refuse("tools", &["[]"])?;
    fields.refuse("tool_choice", &["\"none\"", "\"auto\""])?;
    // Without tools there are no calls that could be parallel.
    fields.take::<bool>("parallel_tool_calls")?;
    fields.refuse("functions", &["[]"])?;
    fields.refuse("function_call", &["\"none\"", "\"auto\""])?;
    fields.refuse("modalities", &["[\"text\"]"])?;
    fields.refuse("audio", &[])?;
    fields.refuse("prediction", &[])?;
    fields.refuse("web_search_options", &[])
}

/// How a chat writes choices.
#[derive(Debug)]
pub(crate) struct ChatChoices {
    pub(crate) with_logprobs: bool,
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
    content: String,
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
}

const ASSISTANT: &str = "assistant";

impl ChatChoices {
    fn logprobs(&self, text: &Text) -> Option<ChatLogprobs> {
        self.with_logprobs.then(|| ChatLogprobs::new(&text.scored))
    }
}

impl Choices for ChatChoices {
    const ID_PREFIX: &'static str = "chatcmpl";
    const WHOLE: &'static str = "chat.completion";
    const CHUNK: &'static str = "chat.completion.chunk";
    type Whole = ChatChoice;
    type Chunk = ChatChunkChoice;

    fn opening(&mut self) -> Option<ChatChunkChoice> {
        let delta = Delta { role: Some(ASSISTANT), content: Some(String::new()) };
        Some(ChatChunkChoice { index: 0, delta, logprobs: None, finish_reason: None })
    }

    fn delta(&mut self, text: &Text) -> Option<ChatChunkChoice> {
        let something = !text.text.is_empty() || (self.with_logprobs && !text.scored.is_empty());
        something.then(|| ChatChunkChoice {
            index: 0,
            delta: Delta { role: None, content: Some(text.text.clone()) },
            logprobs: self.logprobs(text),
            finish_reason: None,
        })
    }

    fn last(&mut self, finish: FinishReason) -> ChatChunkChoice {
        ChatChunkChoice { index: 0, delta: Delta::default(), logprobs: None, finish_reason: Some(finish) }
    }

    fn whole(&mut self, text: Text, finish: FinishReason) -> ChatChoice {
        let logprobs = self.logprobs(&text);
        let message =
            AssistantMessage { role: ASSISTANT, content: text.text, refusal: None, annotations: [] };
        ChatChoice { index: 0, message, logprobs, finish_reason: finish }
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
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (more, param) in [
            (r#","tools":[{"type":"function"}]"#, "tools"),
            (r#","tool_choice":"required""#, "tool_choice"),
            (r#","functions":[{}]"#, "functions"),
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
