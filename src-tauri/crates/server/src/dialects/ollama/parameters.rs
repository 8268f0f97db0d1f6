//! What both calls of Ollama's API take, and what a body of theirs asks for.

use serde_json::Value;
use serde_json::value::RawValue;
use text::{Chat, OutputFormat, Strictness};

use super::lines::{Form, Lines};
use super::options::{Options, take_options};
use crate::calls::call::{Call, Names, Prompt};
use crate::calls::fault::{Fault, shorten};
use crate::calls::thinking::{Effort, Thinking};
use crate::calls::tools::Tools;
use crate::dialects::dialect::{Asked, Delivery};
use crate::dialects::fields::Fields;
use crate::dialects::remarks::Remarks;

/// Bytes of a schema: what it is built into is larger than its text many times over.
const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// Most rivals that log-probabilities are reported with.
const MAX_TOP_LOGPROBS: usize = 20;

/// What a body asks for.
pub(crate) enum Wanted {
    Answer(Box<Asked>),
    /// Nothing is to be said: the model is to be there, or to go.
    Model {
        name: Option<String>,
        form: Form,
        /// Why that is all, in the API's word.
        reason: &'static str,
    },
}

/// What both calls take.
pub(crate) struct Parameters {
    pub(crate) model: Option<String>,
    pub(crate) delivery: Delivery,
    pub(crate) format: Option<OutputFormat>,
    pub(crate) options: Options,
    pub(crate) thinking: Thinking,
    pub(crate) top_logprobs: Option<usize>,
    /// `load`, or `unload` where the model is to stay for no time.
    pub(crate) reason: &'static str,
    pub(crate) remarks: Remarks,
}

impl Parameters {
    /// Take them out of a body.
    ///
    /// # Errors
    /// A value is of the wrong type, out of range or not supported.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Parameters, Fault> {
        let mut remarks = Remarks::default();
        Ok(Parameters {
            model: fields.take("model")?,
            delivery: match fields.take::<bool>("stream")? {
                Some(false) => Delivery::Whole,
                Some(true) | None => Delivery::Streamed,
            },
            format: take_format(fields)?,
            options: take_options(fields, &mut remarks)?,
            thinking: take_think(fields)?,
            top_logprobs: take_logprobs(fields)?,
            reason: if take_keep_alive(fields)? { "load" } else { "unload" },
            remarks,
        })
    }

    /// The answer to go on with `prompt`.
    pub(crate) fn answer(self, prompt: Prompt, tools: Tools, form: Form, names: Names) -> Wanted {
        let call = Call {
            model: self.model.clone(),
            prompt,
            sampling: self.options.sampling,
            max_tokens: self.options.max_tokens,
            stop: self.options.stop,
            ignore_end_of_turn: false,
            format: self.format,
            tools,
            thinking: self.thinking,
            remarks: self.remarks.into_vec(),
            top_logprobs: self.top_logprobs,
            agent: None,
            names,
        };
        let writer = Lines::new(form, self.model, self.top_logprobs.is_some());
        Wanted::Answer(Box::new(Asked { call, delivery: self.delivery, writer: Box::new(writer) }))
    }

    /// That nothing is to be said.
    pub(crate) fn model_only(self, form: Form) -> Wanted {
        Wanted::Model { name: self.model, form, reason: self.reason }
    }
}

/// A chat of messages. One that ends within the assistant's is gone on with.
pub(crate) fn chat(messages: Vec<text::ChatMessage>) -> Prompt {
    let ends_within = |last: &text::ChatMessage| {
        last.role == "assistant" && last.tool_calls.is_empty() && !last.content.is_empty()
    };
    let continue_final = messages.last().is_some_and(ends_within);
    Prompt::Chat(Chat { messages, add_generation_prompt: !continue_final, continue_final, ..Chat::default() })
}

/// `json`, a schema, or the empty string, which is none.
fn take_format(fields: &mut Fields<'_>) -> Result<Option<OutputFormat>, Fault> {
    let Some(format) = fields.take_large::<&RawValue>("format")? else { return Ok(None) };
    if format.get().len() > MAX_SCHEMA_BYTES {
        return Err(Fault::invalid("format", format!("longer than {MAX_SCHEMA_BYTES} bytes")));
    }
    match serde_json::from_str::<Value>(format.get()) {
        Ok(Value::String(word)) if word.is_empty() => Ok(None),
        Ok(Value::String(word)) if word == "json" => Ok(Some(OutputFormat::JsonObject)),
        Ok(schema @ Value::Object(_)) => {
            Ok(Some(OutputFormat::JsonSchema { schema, strictness: Strictness::Lenient }))
        }
        _ => Err(Fault::invalid("format", "neither \"json\" nor a schema")),
    }
}

/// Whether to think, or how hard.
fn take_think(fields: &mut Fields<'_>) -> Result<Thinking, Fault> {
    let thinking = |wanted, effort| Thinking { wanted, effort, ..Thinking::default() };
    match fields.take::<Value>("think")? {
        None => Ok(Thinking::default()),
        Some(Value::Bool(wanted)) => Ok(thinking(Some(wanted), None)),
        Some(Value::String(word)) => match Effort::named(&word) {
            Some(effort) => Ok(thinking(Some(effort != Effort::None), Some(effort))),
            None => {
                let message = format!("'{}' is neither true, false nor an effort", shorten(&word));
                Err(Fault::invalid("think", message))
            }
        },
        Some(_) => Err(Fault::invalid("think", "neither true, false nor an effort")),
    }
}

fn take_logprobs(fields: &mut Fields<'_>) -> Result<Option<usize>, Fault> {
    let wanted = fields.take::<bool>("logprobs")?.unwrap_or(false);
    let n = fields.take_whole_within("top_logprobs", 0..=MAX_TOP_LOGPROBS)?.unwrap_or(0);
    Ok((wanted || n > 0).then_some(n))
}

/// Whether the model is to stay for any time after the answer. How long is a hint: models stay while there is room.
fn take_keep_alive(fields: &mut Fields<'_>) -> Result<bool, Fault> {
    match fields.take::<Value>("keep_alive")? {
        None => Ok(true),
        Some(Value::Number(seconds)) => Ok(seconds.as_f64() != Some(0.0)),
        Some(Value::String(time)) => {
            let number = time.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            match number.is_empty() {
                true => Err(Fault::invalid("keep_alive", "neither seconds nor a time such as \"5m\"")),
                false => Ok(number.parse::<f64>() != Ok(0.0)),
            }
        }
        Some(_) => Err(Fault::invalid("keep_alive", "neither seconds nor a time such as \"5m\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> Result<Parameters, Fault> {
        let mut fields = Fields::of_body(body.as_bytes())?;
        let parameters = Parameters::take(&mut fields)?;
        fields.finish()?;
        Ok(parameters)
    }

    #[test]
    fn an_answer_is_streamed_unless_it_is_not_wanted_so() {
        let delivery = |body: &str| take(body).unwrap().delivery;
        assert_eq!(delivery("{}"), Delivery::Streamed);
        assert_eq!(delivery(r#"{"stream":true}"#), Delivery::Streamed);
        assert_eq!(delivery(r#"{"stream":false}"#), Delivery::Whole);
    }

    #[test]
    fn a_format_is_a_word_or_a_schema_or_nothing() {
        let format = |format: &str| take(&format!(r#"{{"format":{format}}}"#)).unwrap().format;
        assert_eq!(format(r#""""#), None);
        assert_eq!(format("null"), None);
        assert_eq!(format(r#""json""#), Some(OutputFormat::JsonObject));
        assert!(matches!(format(r#"{"type":"object"}"#), Some(OutputFormat::JsonSchema { .. })));
    }

    #[test]
    fn thinking_is_a_switch_or_an_effort() {
        let think = |think: &str| take(&format!(r#"{{"think":{think}}}"#)).unwrap().thinking;
        assert_eq!(think("null"), Thinking::default());
        assert_eq!(think("true").wanted, Some(true));
        assert_eq!(think("false").wanted, Some(false));
        assert_eq!(
            think(r#""high""#),
            Thinking { wanted: Some(true), effort: Some(Effort::High), budget: None }
        );
    }

    #[test]
    fn a_model_that_is_to_stay_for_no_time_is_to_go() {
        let reason = |keep: &str| take(&format!(r#"{{"keep_alive":{keep}}}"#)).unwrap().reason;
        for keep in [r#""5m""#, "300", "-1", r#""-1""#, r#""1h30m""#, "null"] {
            assert_eq!(reason(keep), "load", "{keep}");
        }
        for keep in ["0", r#""0""#, r#""0s""#, "0.0"] {
            assert_eq!(reason(keep), "unload", "{keep}");
        }
    }

    #[test]
    fn another_form_is_refused_where_it_is_wrong() {
        for (body, place) in [
            (r#"{"format":"xml"}"#, "format"),
            (r#"{"format":[]}"#, "format"),
            (r#"{"think":"very"}"#, "think"),
            (r#"{"think":7}"#, "think"),
            (r#"{"keep_alive":"soon"}"#, "keep_alive"),
            (r#"{"keep_alive":[]}"#, "keep_alive"),
            (r#"{"top_logprobs":99}"#, "top_logprobs"),
            (r#"{"stream":"yes"}"#, "stream"),
        ] {
            assert_eq!(take(body).err().unwrap().place.as_deref(), Some(place), "{body}");
        }
    }
}
