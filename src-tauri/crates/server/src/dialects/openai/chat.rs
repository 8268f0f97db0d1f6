//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use engine::FinishReason;
use serde_json::{Value, json};
use text::{Chat, TextModel};

use super::answer::{Dialect, Piece, finish_reason};
use super::generate::{Call, generate};
use super::logprobs;
use super::messages::take_messages;
use super::parameters::{LengthFields, Parameters};
use super::prompt::Prompt;
use super::response_format::take_response_format;
use super::template_variables::take_template_variables;
use crate::calls::fault::ApiError;
use crate::dialects::fields::Fields;
use crate::router::App;

/// Most rivals that log-probabilities are reported with.
const MAX_TOP_LOGPROBS: usize = 20;
/// The bound on an answer's length has two names.
const LENGTH: LengthFields = LengthFields { names: &["max_tokens", "max_completion_tokens"], default: None };

pub(crate) async fn chat_completions(State(app): State<Arc<App>>, request: Request) -> Response {
    generate(app, request, parse).await
}

/// A body as a call.
fn parse(body: &[u8]) -> Result<Call<ChatDialect>, ApiError> {
    let mut fields = Fields::of_body(body)?;
    let messages = take_messages(&mut fields)?;
    let parameters = Parameters::take(&mut fields, LENGTH)?;
    let top_logprobs = take_logprobs(&mut fields)?;
    let format = take_response_format(&mut fields)?;

    let continue_final = fields.take("continue_final_message")?.unwrap_or(false);
    let add_generation_prompt = fields.take::<bool>("add_generation_prompt")?;
    if continue_final && add_generation_prompt == Some(true) {
        let message = "cannot be true together with 'continue_final_message'";
        return Err(ApiError::invalid("add_generation_prompt", message));
    }

    let extra = take_template_variables(&mut fields)?;
    refuse_the_rest(&mut fields)?;
    fields.finish()?;
    let chat = Chat {
        messages,
        add_generation_prompt: add_generation_prompt.unwrap_or(!continue_final),
        continue_final,
        extra,
    };
    let dialect = ChatDialect { with_logprobs: top_logprobs.is_some() };
    Ok(Call { parameters, prompt: Prompt::Chat(chat), format, top_logprobs, dialect })
}

/// How many rivals to report, where `logprobs` asks for log-probabilities at all.
fn take_logprobs(fields: &mut Fields<'_>) -> Result<Option<usize>, ApiError> {
    let wanted = fields.take::<bool>("logprobs")?.unwrap_or(false);
    match fields.take_whole_within("top_logprobs", 0..=MAX_TOP_LOGPROBS)? {
        Some(n) if n > 0 && !wanted => {
            Err(ApiError::invalid("top_logprobs", "only allowed when 'logprobs' is true"))
        }
        n => Ok(wanted.then(|| n.unwrap_or(0))),
    }
}

/// What OpenAI's API has and this server does not do yet, or never; each is refused by name, and values that ask
/// for what happens anyway pass.
fn refuse_the_rest(fields: &mut Fields<'_>) -> Result<(), ApiError> {
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
pub(crate) struct ChatDialect {
    with_logprobs: bool,
}

impl ChatDialect {
    fn logprobs(&self, model: &TextModel, piece: &Piece) -> Value {
        if self.with_logprobs { logprobs::of_chat(model, &piece.logprobs) } else { Value::Null }
    }
}

impl Dialect for ChatDialect {
    const ID_PREFIX: &'static str = "chatcmpl";
    const WHOLE: &'static str = "chat.completion";
    const CHUNK: &'static str = "chat.completion.chunk";

    fn opening(&mut self) -> Option<Value> {
        Some(json!({
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": null,
            "finish_reason": null,
        }))
    }

    fn delta(&mut self, model: &TextModel, piece: &Piece) -> Option<Value> {
        let something = !piece.text.is_empty() || (self.with_logprobs && !piece.logprobs.is_empty());
        something.then(|| {
            json!({
                "index": 0,
                "delta": {"content": piece.text},
                "logprobs": self.logprobs(model, piece),
                "finish_reason": null,
            })
        })
    }

    fn last(&mut self, reason: &FinishReason) -> Value {
        json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": finish_reason(reason)})
    }

    fn whole(&mut self, model: &TextModel, all: &Piece, reason: &FinishReason) -> Value {
        json!({
            "index": 0,
            "message": {"role": "assistant", "content": all.text, "refusal": null, "annotations": []},
            "logprobs": self.logprobs(model, all),
            "finish_reason": finish_reason(reason),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body with a message and `more` fields.
    fn call(more: &str) -> Result<Call<ChatDialect>, ApiError> {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        parse(body.as_bytes())
    }

    #[test]
    fn logprobs_are_asked_for_by_two_fields() {
        let top = |more: &str| call(more).unwrap().top_logprobs;
        assert_eq!(top(""), None);
        assert_eq!(top(r#","logprobs":false,"top_logprobs":0"#), None);
        assert_eq!(top(r#","logprobs":true"#), Some(0));
        assert_eq!(top(r#","logprobs":true,"top_logprobs":20"#), Some(20));
    }

    #[test]
    fn both_names_of_the_token_limit_mean_the_same() {
        let most = |more: &str| call(more).unwrap().parameters.max_tokens;
        assert_eq!(most(r#","max_completion_tokens":5"#), Some(5));
        assert_eq!(most(r#","max_tokens":6"#), Some(6));
        assert_eq!(most(r#","max_tokens":6,"max_completion_tokens":6"#), Some(6));
        assert_eq!(most(r#","max_completion_tokens":-1"#), None);
    }

    #[test]
    fn a_final_message_is_continued_on_request() {
        let flags = |more: &str| {
            let Prompt::Chat(chat) = call(more).unwrap().prompt else { panic!("a chat") };
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
            let error = call(more).unwrap_err();
            assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)), "{more}");
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
        let Prompt::Chat(chat) = call(r#","chat_template_kwargs":{"enable_thinking":false}"#).unwrap().prompt
        else {
            panic!("a chat")
        };
        assert_eq!(Value::Object(chat.extra), json!({"enable_thinking": false}));
    }
}
