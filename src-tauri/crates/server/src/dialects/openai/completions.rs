//! `POST /v1/completions`.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::chunks::{Choices, Chunks, FinishReason};
use super::logprobs::CompletionLogprobs;
use super::parameters::{LengthFields, NAMES, Parameters};
use super::response_format::take_response_format;
use crate::calls::answer::{Finish, Part, Text};
use crate::calls::call::Prompt;
use crate::calls::fault::Fault;
use crate::dialects::dialect::Asked;
use crate::dialects::fields::Fields;
use crate::dialects::token_ids::token_ids;

/// Most rivals that log-probabilities are reported with.
const MAX_LOGPROBS: usize = 5;
/// The bound on an answer's length, with OpenAI's default for this call.
const LENGTH: LengthFields = LengthFields { names: &["max_tokens"], default: Some(16) };

/// A body as a call.
pub(crate) fn parse(body: &[u8]) -> Result<Asked, Fault> {
    let mut fields = Fields::of_body(body)?;
    let prompt = take_prompt(&mut fields)?;
    let parameters = Parameters::take(&mut fields, LENGTH)?;
    let top_logprobs = fields.take_whole_within("logprobs", 0..=MAX_LOGPROBS)?;
    let format = take_response_format(&mut fields)?;
    fields.refuse("echo", &["false"])?;
    fields.refuse("best_of", &["1"])?;
    fields.refuse("suffix", &["\"\""])?;
    fields.finish()?;
    let choices = CompletionChoices { with_logprobs: top_logprobs.is_some(), n_chars: 0 };
    let writer = Chunks { choices, include_usage: parameters.include_usage };
    let delivery = parameters.delivery;
    let call = parameters.into_call(prompt, format, top_logprobs, NAMES);
    Ok(Asked { call, delivery, writer: Box::new(writer) })
}

/// A string, a list of token ids, or a list of one of these.
fn take_prompt(fields: &mut Fields<'_>) -> Result<Prompt, Fault> {
    const FORMS: &str = "expected a string or a list of token ids";
    let Some(prompt) = fields.take_large::<&RawValue>("prompt")? else {
        return Err(Fault::missing("prompt"));
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
            form(one.get()).ok_or_else(|| Fault::invalid("prompt", FORMS))
        }
        Ok(Few { first: Some(one), more: true }) if one.get().starts_with(['"', '[']) => {
            Err(Fault::unsupported("prompt", "more than one prompt in a call is not supported"))
        }
        _ => Err(Fault::invalid("prompt", FORMS)),
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
pub(crate) struct CompletionChoices {
    with_logprobs: bool,
    /// Characters of the text so far, for `text_offset`.
    n_chars: usize,
}

/// A choice of a completion, whole or of a chunk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    /// `null` in every chunk but the last one with a choice.
    finish_reason: Option<FinishReason>,
}

impl CompletionChoices {
    fn choice(&mut self, text: &Text, finish: Option<FinishReason>) -> CompletionChoice {
        let logprobs = self.with_logprobs.then(|| CompletionLogprobs::new(&text.scored, self.n_chars));
        self.n_chars += text.text.chars().count();
        CompletionChoice { index: 0, text: text.text.clone(), logprobs, finish_reason: finish }
    }
}

impl Choices for CompletionChoices {
    const ID_PREFIX: &'static str = "cmpl";
    const WHOLE: &'static str = "text_completion";
    const CHUNK: &'static str = "text_completion";
    type Whole = CompletionChoice;
    type Chunk = CompletionChoice;

    fn opening(&mut self) -> Option<CompletionChoice> {
        None
    }

    fn delta(&mut self, part: &Part) -> Option<CompletionChoice> {
        // A raw prompt's answer is nothing but text.
        let Part::Text(text) = part else { return None };
        let something = !text.text.is_empty() || (self.with_logprobs && !text.scored.is_empty());
        something.then(|| self.choice(text, None))
    }

    fn last(&mut self, finish: &Finish) -> CompletionChoice {
        CompletionChoice { index: 0, text: String::new(), logprobs: None, finish_reason: Some(finish.into()) }
    }

    fn whole(&mut self, parts: Vec<Part>, finish: &Finish) -> CompletionChoice {
        self.choice(&Text::of(parts), Some(finish.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::status;
    use super::*;

    fn call(body: &str) -> Result<Asked, Fault> {
        parse(body.as_bytes())
    }

    #[test]
    fn a_prompt_is_a_string_or_token_ids_or_a_list_of_one() {
        let show = |prompt: &str| match call(&format!(r#"{{"prompt":{prompt}}}"#)).unwrap().call.prompt {
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
                    assert_eq!(
                        (status(error.kind).as_u16(), error.place.as_deref()),
                        (400, Some(param)),
                        "{body}"
                    );
                }
                // An empty list of tokens is refused when the model is known.
                Ok(_) => assert_eq!(param, "", "{body}"),
            }
        }
    }

    #[test]
    fn an_answer_has_16_tokens_unless_more_are_asked_for() {
        assert_eq!(call(r#"{"prompt":"a"}"#).unwrap().call.max_tokens, Some(16));
        assert_eq!(call(r#"{"prompt":"a","max_tokens":99}"#).unwrap().call.max_tokens, Some(99));
        assert_eq!(call(r#"{"prompt":"a","max_tokens":-1}"#).unwrap().call.max_tokens, None);
    }
}
