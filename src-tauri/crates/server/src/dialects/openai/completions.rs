//! `POST /v1/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use engine::FinishReason;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use text::TextModel;

use super::answer::{Dialect, Piece, finish_reason};
use super::generate::{Call, generate};
use super::logprobs;
use super::parameters::{LengthFields, Parameters};
use super::prompt::{Prompt, token_ids};
use super::response_format::take_response_format;
use crate::calls::fault::ApiError;
use crate::dialects::fields::Fields;
use crate::router::App;

/// Most rivals that log-probabilities are reported with.
const MAX_LOGPROBS: usize = 5;
/// The bound on an answer's length, with OpenAI's default for this call.
const LENGTH: LengthFields = LengthFields { names: &["max_tokens"], default: Some(16) };

pub(crate) async fn completions(State(app): State<Arc<App>>, request: Request) -> Response {
    generate(app, request, parse).await
}

/// A body as a call.
fn parse(body: &[u8]) -> Result<Call<CompletionDialect>, ApiError> {
    let mut fields = Fields::of_body(body)?;
    let prompt = take_prompt(&mut fields)?;
    let parameters = Parameters::take(&mut fields, LENGTH)?;
    let top_logprobs = fields.take_whole_within("logprobs", 0..=MAX_LOGPROBS)?;
    let format = take_response_format(&mut fields)?;
    fields.refuse("echo", &["false"])?;
    fields.refuse("best_of", &["1"])?;
    fields.refuse("suffix", &["\"\""])?;
    fields.finish()?;
    let dialect = CompletionDialect { with_logprobs: top_logprobs.is_some(), n_chars: 0 };
    Ok(Call { parameters, prompt, format, top_logprobs, dialect })
}

/// A string, a list of token ids, or a list of one of these.
fn take_prompt(fields: &mut Fields<'_>) -> Result<Prompt, ApiError> {
    const FORMS: &str = "expected a string or a list of token ids";
    let Some(prompt) = fields.take_large::<&RawValue>("prompt")? else {
        return Err(ApiError::missing("prompt"));
    };
    let form = |json: &str| -> Option<Prompt> {
        if json.starts_with('"') {
            serde_json::from_str(json).ok().map(Prompt::Text)
        } else {
            token_ids(json).map(Prompt::Tokens)
        }
    };
    if let Some(prompt) = form(prompt.get()) {
        return Ok(prompt);
    }
    match serde_json::from_str::<Few<'_>>(prompt.get()) {
        Ok(Few { first: Some(one), more: false }) => {
            form(one.get()).ok_or_else(|| ApiError::invalid("prompt", FORMS))
        }
        Ok(Few { first: Some(one), more: true }) if one.get().starts_with(['"', '[']) => {
            Err(ApiError::unsupported("prompt", "more than one prompt in a call is not supported"))
        }
        _ => Err(ApiError::invalid("prompt", FORMS)),
    }
}

/// A list of which only the first element matters.
struct Few<'a> {
    first: Option<&'a RawValue>,
    more: bool,
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for Few<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> serde::de::Visitor<'de> for List {
            type Value = Few<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Few<'de>, A::Error> {
                let first = seq.next_element()?;
                let mut more = false;
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {
                    more = true;
                }
                Ok(Few { first, more })
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// How a completion writes choices.
#[derive(Debug)]
pub(crate) struct CompletionDialect {
    with_logprobs: bool,
    /// Characters of the text so far, for `text_offset`.
    n_chars: usize,
}

impl CompletionDialect {
    fn choice(&mut self, model: &TextModel, piece: &Piece, reason: Option<&FinishReason>) -> Value {
        let logprobs = if self.with_logprobs {
            logprobs::of_completion(model, &piece.logprobs, self.n_chars)
        } else {
            Value::Null
        };
        self.n_chars += piece.text.chars().count();
        json!({
            "index": 0,
            "text": piece.text,
            "logprobs": logprobs,
            "finish_reason": reason.map(finish_reason),
        })
    }
}

impl Dialect for CompletionDialect {
    const ID_PREFIX: &'static str = "cmpl";
    const WHOLE: &'static str = "text_completion";
    const CHUNK: &'static str = "text_completion";

    fn opening(&mut self) -> Option<Value> {
        None
    }

    fn delta(&mut self, model: &TextModel, piece: &Piece) -> Option<Value> {
        let something = !piece.text.is_empty() || (self.with_logprobs && !piece.logprobs.is_empty());
        something.then(|| self.choice(model, piece, None))
    }

    fn last(&mut self, reason: &FinishReason) -> Value {
        json!({"index": 0, "text": "", "logprobs": null, "finish_reason": finish_reason(reason)})
    }

    fn whole(&mut self, model: &TextModel, all: &Piece, reason: &FinishReason) -> Value {
        self.choice(model, all, Some(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &str) -> Result<Call<CompletionDialect>, ApiError> {
        parse(body.as_bytes())
    }

    #[test]
    fn a_prompt_is_a_string_or_token_ids_or_a_list_of_one() {
        let show = |prompt: &str| match call(&format!(r#"{{"prompt":{prompt}}}"#)).unwrap().prompt {
            Prompt::Text(text) => text,
            Prompt::Tokens(tokens) => format!("{tokens:?}"),
            Prompt::Chat(_) => panic!("no chat"),
        };
        assert_eq!(show(r#""hi""#), "hi");
        assert_eq!(show(r#"["hi"]"#), "hi");
        assert_eq!(show("[1,2]"), "[1, 2]");
        assert_eq!(show("[[1,2]]"), "[1, 2]");
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (body, param) in [
            ("{}", "prompt"),
            (r#"{"prompt":7}"#, "prompt"),
            (r#"{"prompt":["a","b"]}"#, "prompt"),
            (r#"{"prompt":[[1],[2]]}"#, "prompt"),
            (r#"{"prompt":[1,"a"]}"#, "prompt"),
            (r#"{"prompt":[-1]}"#, "prompt"),
            (r#"{"prompt":[[]]}"#, ""),
            (r#"{"prompt":"a","echo":true}"#, "echo"),
            (r#"{"prompt":"a","best_of":2}"#, "best_of"),
            (r#"{"prompt":"a","suffix":"z"}"#, "suffix"),
            (r#"{"prompt":"a","logprobs":6}"#, "logprobs"),
            (r#"{"prompt":"a","logprobs":true}"#, "logprobs"),
            (r#"{"prompt":"a","n":2}"#, "n"),
            (r#"{"prompt":"a","messages":[]}"#, "messages"),
        ] {
            match call(body) {
                Err(error) => {
                    assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)), "{body}");
                }
                // An empty list of tokens is refused when the model is known.
                Ok(_) => assert_eq!(param, "", "{body}"),
            }
        }
    }

    #[test]
    fn an_answer_has_16_tokens_unless_more_are_asked_for() {
        assert_eq!(call(r#"{"prompt":"a"}"#).unwrap().parameters.max_tokens, Some(16));
        assert_eq!(call(r#"{"prompt":"a","max_tokens":99}"#).unwrap().parameters.max_tokens, Some(99));
        assert_eq!(call(r#"{"prompt":"a","max_tokens":-1}"#).unwrap().parameters.max_tokens, None);
    }
}
