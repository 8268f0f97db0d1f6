//! `POST /v1/completions`.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::chunks::{Choice, Chunks, FinishReason};
use super::logprobs::CompletionLogprobs;
use super::parameters::{LengthFields, MAX_CHOICES, NAMES, Parameters};
use super::response_format::take_response_format;
use crate::calls::answer::{Finish, Part, Text};
use crate::calls::call::Prompt;
use crate::calls::fault::Fault;
use crate::dialects::dialect::Asked;
use crate::dialects::fields::{Fields, RawList};
use crate::dialects::token_ids::token_ids;

/// Most rivals that log-probabilities are reported with.
const MAX_LOGPROBS: usize = 5;
/// The bound on an answer's length, with OpenAI's default for this call.
const LENGTH: LengthFields = LengthFields { names: &["max_tokens"], default: Some(16) };

/// A body as a call.
pub(crate) fn parse(body: &[u8]) -> Result<Asked, Fault> {
    let mut fields = Fields::of_body(body)?;
    let mut prompts = take_prompts(&mut fields)?;
    let parameters = Parameters::take(&mut fields, LENGTH)?;
    let top_logprobs = fields.take_whole_within("logprobs", 0..=MAX_LOGPROBS)?;
    let format = take_response_format(&mut fields)?;
    let echo = fields.take::<bool>("echo")?.unwrap_or(false);
    fields.refuse("best_of", &["1"])?;
    fields.refuse("suffix", &["\"\""])?;
    fields.finish()?;
    let n_each = 1 + parameters.sampling.n_more;
    let echoed = echoed(&prompts, echo, top_logprobs.is_some())?;
    let n = prompts.len() * n_each;
    if n > MAX_CHOICES {
        let message = format!(
            "{} prompts with {n_each} answers each are {n}, at most {MAX_CHOICES} are given",
            prompts.len()
        );
        return Err(Fault::invalid("prompt", message));
    }
    let choice = |index: usize| CompletionAnswer {
        index,
        with_logprobs: top_logprobs.is_some(),
        echoed: echoed.get(index / n_each).cloned().unwrap_or_default(),
        n_chars: 0,
    };
    let writer = Chunks::new((0..n).map(choice).collect(), parameters.include_usage);
    let delivery = parameters.delivery;
    let prompt = match prompts.len() {
        1 => prompts.swap_remove(0),
        _ => Prompt::Each(prompts),
    };
    let call = parameters.into_call(prompt, format, top_logprobs, NAMES);
    Ok(Asked { call, delivery, writer: Box::new(writer) })
}

/// What each answer begins with where it is to begin with its prompt.
fn echoed(prompts: &[Prompt], echo: bool, with_logprobs: bool) -> Result<Vec<Arc<str>>, Fault> {
    if !echo {
        return Ok(Vec::new());
    }
    if with_logprobs {
        let message = "not supported together with 'logprobs': those of a prompt are not computed";
        return Err(Fault::unsupported("echo", message));
    }
    let text = |prompt: &Prompt| match prompt {
        Prompt::Text(text) => Ok(text.as_str().into()),
        _ => Err(Fault::unsupported("echo", "only supported where the prompt is a text")),
    };
    prompts.iter().map(text).collect()
}

/// A string, a list of token ids, or a list of these.
fn take_prompts(fields: &mut Fields<'_>) -> Result<Vec<Prompt>, Fault> {
    const FORMS: &str = "expected a string, a list of token ids, or a list of these";
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
        return Ok(vec![prompt]);
    }
    let wrong = || Fault::invalid("prompt", FORMS);
    let RawList(prompts) = serde_json::from_str::<RawList<'_>>(prompt.get()).map_err(|_| wrong())?;
    if prompts.is_empty() {
        return Err(wrong());
    }
    if prompts.len() > MAX_CHOICES {
        let message = format!("{} prompts, at most {MAX_CHOICES} are taken", prompts.len());
        return Err(Fault::invalid("prompt", message));
    }
    prompts.iter().map(|prompt| form(prompt.get()).ok_or_else(wrong)).collect()
}

/// How a completion writes a choice.
#[derive(Debug)]
struct CompletionAnswer {
    index: usize,
    with_logprobs: bool,
    /// The prompt, where the answer is to begin with it.
    echoed: Arc<str>,
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

impl CompletionAnswer {
    fn choice(&mut self, text: &Text, finish: Option<FinishReason>) -> CompletionChoice {
        let logprobs = self.with_logprobs.then(|| CompletionLogprobs::new(&text.scored, self.n_chars));
        self.n_chars += text.text.chars().count();
        CompletionChoice { index: self.index, text: text.text.clone(), logprobs, finish_reason: finish }
    }
}

impl Choice for CompletionAnswer {
    const ID_PREFIX: &'static str = "cmpl";
    const WHOLE: &'static str = "text_completion";
    const CHUNK: &'static str = "text_completion";
    type Whole = CompletionChoice;
    type Chunk = CompletionChoice;

    fn opening(&mut self) -> Option<CompletionChoice> {
        let text = std::mem::take(&mut self.echoed).to_string();
        (!text.is_empty()).then(|| self.choice(&Text { text, scored: Vec::new() }, None))
    }

    fn delta(&mut self, part: &Part) -> Option<CompletionChoice> {
        // A raw prompt's answer is nothing but text.
        let Part::Text(text) = part else { return None };
        let something = !text.text.is_empty() || (self.with_logprobs && !text.scored.is_empty());
        something.then(|| self.choice(text, None))
    }

    fn last(&mut self, finish: &Finish) -> CompletionChoice {
        let finish_reason = Some(finish.into());
        CompletionChoice { index: self.index, text: String::new(), logprobs: None, finish_reason }
    }

    fn whole(&mut self, parts: Vec<Part>, finish: &Finish) -> CompletionChoice {
        let mut text = Text { text: std::mem::take(&mut self.echoed).to_string(), scored: Vec::new() };
        text.join(Text::of(parts));
        self.choice(&text, Some(finish.into()))
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
    fn a_prompt_is_a_string_or_token_ids_or_a_list_of_these() {
        fn shown(prompt: &Prompt) -> String {
            match prompt {
                Prompt::Text(text) => text.clone(),
                Prompt::Tokens(tokens) => format!("{tokens:?}"),
                Prompt::Each(prompts) => prompts.iter().map(shown).collect::<Vec<_>>().join(" | "),
                Prompt::Chat(_) => panic!("no chat"),
            }
        }
        let show = |prompt: &str| shown(&call(&format!(r#"{{"prompt":{prompt}}}"#)).unwrap().call.prompt);
        assert_eq!(show(r#""hi""#), "hi");
        assert_eq!(show(r#"["hi"]"#), "hi");
        assert_eq!(show("[1,2]"), "[1, 2]");
        assert_eq!(show("[[1,2]]"), "[1, 2]");
        assert_eq!(show(r#"["a","b"]"#), "a | b");
        assert_eq!(show(r#"[[1],"b"]"#), "[1] | b");
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (body, param) in [
            ("{}", "prompt"),
            (r#"{"prompt":7}"#, "prompt"),
            (r#"{"prompt":[]}"#, ""),
            (r#"{"prompt":["a",["b"]]}"#, "prompt"),
            (r#"{"prompt":["a","b","c"],"n":6}"#, "prompt"),
            (r#"{"prompt":[1,"a"]}"#, "prompt"),
            (r#"{"prompt":[-1]}"#, "prompt"),
            (r#"{"prompt":[[]]}"#, ""),
            (r#"{"prompt":"a","echo":true,"logprobs":1}"#, "echo"),
            (r#"{"prompt":[1],"echo":true}"#, "echo"),
            (r#"{"prompt":"a","best_of":2}"#, "best_of"),
            (r#"{"prompt":"a","suffix":"z"}"#, "suffix"),
            (r#"{"prompt":"a","logprobs":6}"#, "logprobs"),
            (r#"{"prompt":"a","logprobs":true}"#, "logprobs"),
            (r#"{"prompt":"a","n":17}"#, "n"),
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
