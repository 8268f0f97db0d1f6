//! The parameters that both generation calls share: each is honoured or refused by name, none is ignored.

use serde_json::value::RawValue;

use text::OutputFormat;

use super::sampling::take_sampling;
use crate::calls::agent_name;
use crate::calls::call::{Call, Names, Prompt, RequestedSampling};
use crate::calls::fault::Fault;
use crate::calls::thinking::Thinking;
use crate::calls::tools::Tools;
use crate::dialects::dialect::Delivery;
use crate::dialects::fields::Fields;
use crate::dialects::stops::take_stops;

/// The shared parameters, checked as far as they can be without a model.
#[derive(Debug, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) model: Option<String>,
    pub(crate) sampling: RequestedSampling,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    pub(crate) ignore_end_of_turn: bool,
    pub(crate) delivery: Delivery,
    /// Whether a last chunk tells the usage.
    pub(crate) include_usage: bool,
    /// The agent's name as the body gives it.
    pub(crate) agent: Option<String>,
}

/// Answers that a call may have. Each takes a place among the requests in flight.
pub(crate) const MAX_CHOICES: usize = 16;

/// What both calls name alike.
pub(crate) const NAMES: Names = Names {
    prompt: "prompt",
    format: "response_format",
    schema: "response_format.json_schema.schema",
    tools: "tools",
    tool_choice: "tool_choice",
    logit_bias: "logit_bias",
};

impl Parameters {
    /// Take them out of a body whose API bounds an answer with `length`.
    ///
    /// # Errors
    /// A value is of the wrong type, out of range or not supported.
    pub(crate) fn take(fields: &mut Fields<'_>, length: LengthFields) -> Result<Parameters, Fault> {
        let (delivery, include_usage) = take_delivery(fields)?;
        let parameters = Parameters {
            model: fields.take("model")?,
            sampling: RequestedSampling { n_more: take_n(fields)? - 1, ..take_sampling(fields)? },
            max_tokens: take_max_tokens(fields, length)?,
            stop: take_stops(fields, "stop")?,
            ignore_end_of_turn: fields.take("ignore_eos")?.unwrap_or(false),
            delivery,
            include_usage,
            agent: take_agent(fields)?,
        };
        refuse_common(fields)?;
        Ok(parameters)
    }

    /// The call that these are the parameters of.
    pub(crate) fn into_call(
        self,
        prompt: Prompt,
        format: Option<OutputFormat>,
        top_logprobs: Option<usize>,
        names: Names,
    ) -> Call {
        Call {
            model: self.model,
            prompt,
            sampling: self.sampling,
            max_tokens: self.max_tokens,
            stop: self.stop,
            ignore_end_of_turn: self.ignore_end_of_turn,
            format,
            tools: Tools::default(),
            thinking: Thinking::default(),
            remarks: Vec::new(),
            top_logprobs,
            agent: self.agent,
            names,
        }
    }
}

/// How many answers to give to each prompt.
fn take_n(fields: &mut Fields<'_>) -> Result<usize, Fault> {
    Ok(fields.take_whole_within("n", 1..=MAX_CHOICES)?.unwrap_or(1))
}

/// How an API names the bound on an answer's length, and what it is when nobody says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LengthFields {
    /// The names, all of which mean the same.
    pub(crate) names: &'static [&'static str],
    /// The bound of a request that has none of them; absent = the room that the context leaves.
    pub(crate) default: Option<usize>,
}

/// At least 1; -1 is without a bound.
fn take_max_tokens(fields: &mut Fields<'_>, length: LengthFields) -> Result<Option<usize>, Fault> {
    let mut chosen: Option<(&str, Option<usize>)> = None;
    for &name in length.names {
        let most = match fields.take_whole(name)? {
            None => continue,
            Some(-1) => None,
            Some(most) if most < 1 => {
                return Err(Fault::invalid(fields.path(name), "must be at least 1, or -1 for no bound"));
            }
            // More than any context holds.
            Some(most) => Some(usize::try_from(most).unwrap_or(usize::MAX)),
        };
        match chosen {
            Some((other, theirs)) if theirs != most => {
                let message = format!("'{other}' and '{name}' differ; give one of them");
                return Err(Fault::invalid(fields.path(name), message));
            }
            _ => chosen = Some((name, most)),
        }
    }
    Ok(chosen.map_or(length.default, |(_, most)| most))
}

/// How the answer is handed over, and whether the usage is told in a chunk.
fn take_delivery(fields: &mut Fields<'_>) -> Result<(Delivery, bool), Fault> {
    let stream = fields.take::<bool>("stream")?.unwrap_or(false);
    let Some(options) = fields.take::<&RawValue>("stream_options")? else {
        return Ok((if stream { Delivery::Streamed } else { Delivery::Whole }, false));
    };
    let mut options = Fields::of_value("stream_options", options)?;
    if !stream {
        return Err(Fault::invalid("stream_options", "only allowed when 'stream' is true"));
    }
    let include_usage = options.take("include_usage")?.unwrap_or(false);
    options.refuse("include_obfuscation", &["false"])?;
    options.finish()?;
    Ok((Delivery::Streamed, include_usage))
}

/// `session_id`, `prompt_cache_key`, `metadata.user_id`, in this order.
fn take_agent(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    let session_id = fields.take("session_id")?;
    let prompt_cache_key = fields.take("prompt_cache_key")?;
    let user_id = match fields.take::<&RawValue>("metadata")? {
        // What else a client notes there is its own business.
        Some(metadata) => Fields::of_value("metadata", metadata)?.take("user_id")?,
        None => None,
    };
    Ok(agent_name::from_body([session_id, prompt_cache_key, user_id]))
}

/// What both APIs have and this server does not do; values that ask for what happens anyway pass, and so do hints
/// that cannot change an answer.
fn refuse_common(fields: &mut Fields<'_>) -> Result<(), Fault> {
    // Who the end user is, what is stored and billed and how, and how long a prompt stays cached are matters of a
    // company's service; here they say nothing.
    fields.take::<bool>("store")?;
    fields.take::<String>("service_tier")?;
    fields.pass(|name| matches!(name, "user" | "safety_identifier") || name.starts_with("prompt_cache_"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fault::status;
    use super::*;

    const LENGTH: LengthFields = LengthFields { names: &["max_tokens", "most"], default: None };

    fn take(body: &str) -> Result<Parameters, Fault> {
        let mut fields = Fields::of_body(body.as_bytes())?;
        let parameters = Parameters::take(&mut fields, LENGTH)?;
        fields.finish()?;
        Ok(parameters)
    }

    #[test]
    fn absent_and_null_parameters_mean_the_defaults() {
        let want = Parameters {
            model: None,
            sampling: RequestedSampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            ignore_end_of_turn: false,
            delivery: Delivery::Whole,
            include_usage: false,
            agent: None,
        };
        assert_eq!(take("{}"), Ok(want));
        assert_eq!(
            take(r#"{"temperature":null,"stop":null,"stream":null,"n":null,"logit_bias":null}"#),
            take("{}")
        );
    }

    #[test]
    fn every_parameter_is_taken() {
        let got = take(
            r#"{"model":"m","temperature":0.5,"seed":-1,"max_tokens":9,"stop":["a","b"],"ignore_eos":true,
                "stream":true,"n":1,"user":"u","stream_options":{"include_usage":true},
                "prompt_cache_key":"research"}"#,
        );
        let mut sampling = RequestedSampling { seed: Some(u64::MAX), ..RequestedSampling::default() };
        sampling.choices.temperature = Some(0.5);
        let want = Parameters {
            model: Some("m".into()),
            sampling,
            max_tokens: Some(9),
            stop: vec!["a".into(), "b".into()],
            ignore_end_of_turn: true,
            delivery: Delivery::Streamed,
            include_usage: true,
            agent: Some("research".into()),
        };
        assert_eq!(got, Ok(want));
        assert_eq!(take(r#"{"stop":"x"}"#).unwrap().stop, ["x"]);
    }

    #[test]
    fn the_bound_on_the_length_is_a_number_however_written_or_none_at_all() {
        let most = |body: &str| take(body).unwrap().max_tokens;
        assert_eq!(most(r#"{"max_tokens":4.0}"#), Some(4));
        assert_eq!(most(r#"{"max_tokens":1e2}"#), Some(100));
        assert_eq!(most(r#"{"max_tokens":-1}"#), None);
        assert_eq!(most(r#"{"max_tokens":-1.0,"most":null}"#), None);
        assert_eq!(most(r#"{"max_tokens":6,"most":6.0}"#), Some(6));
        assert_eq!(most(r#"{"max_tokens":1e300}"#), Some(usize::MAX));
        let fields = || Fields::of_body(br#"{"max_tokens":-1}"#).unwrap();
        let length = LengthFields { default: Some(16), ..LENGTH };
        assert_eq!(Parameters::take(&mut fields(), length).unwrap().max_tokens, None, "-1 is not absent");
    }

    #[test]
    fn what_happens_anyway_and_hints_pass_however_they_are_written() {
        for body in [
            r#"{"n":1.0}"#,
            r#"{"n":1e0}"#,
            r#"{"store":true}"#,
            r#"{"store":false,"service_tier":"flex"}"#,
            r#"{"service_tier":"priority"}"#,
            r#"{"user":"u","safety_identifier":"s"}"#,
            r#"{"user":7}"#,
            r#"{"prompt_cache_key":"k","prompt_cache_retention":"24h"}"#,
            r#"{"prompt_cache_options":{"ttl":[1]}}"#,
            r#"{"metadata":{"run":7,"tags":["a"],"user_id":null}}"#,
            r#"{"metadata":null,"stream_options":null,"something_new":null}"#,
            r#"{"stream":true,"stream_options":{"include_usage":null,"new":null,"include_obfuscation":false}}"#,
        ] {
            assert!(take(body).is_ok(), "{body} {:?}", take(body));
        }
    }

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_parameter() {
        let many_stops = format!(r#"{{"stop":[{}"x"]}}"#, "\"x\",".repeat(16));
        let long_stop = format!(r#"{{"stop":"{}"}}"#, "x".repeat(1025));
        for (body, param) in [
            (r#"{"seed":1.5}"#, "seed"),
            (r#"{"temperature":2.1}"#, "temperature"),
            (r#"{"max_tokens":0}"#, "max_tokens"),
            (r#"{"max_tokens":-2}"#, "max_tokens"),
            (r#"{"max_tokens":1.5}"#, "max_tokens"),
            (r#"{"max_tokens":5,"most":6}"#, "most"),
            (r#"{"max_tokens":-1,"most":6}"#, "most"),
            (r#"{"max_tokens":"9"}"#, "max_tokens"),
            (r#"{"stop":""}"#, "stop"),
            (r#"{"stop":["a",""]}"#, "stop"),
            (r#"{"stop":7}"#, "stop"),
            (&many_stops, "stop"),
            (&long_stop, "stop"),
            (r#"{"stream":"yes"}"#, "stream"),
            (r#"{"stream_options":{"include_usage":true}}"#, "stream_options"),
            (r#"{"stream":true,"stream_options":{"x":1}}"#, "stream_options.x"),
            (r#"{"stream":true,"stream_options":[]}"#, "stream_options"),
            (
                r#"{"stream":true,"stream_options":{"include_obfuscation":true}}"#,
                "stream_options.include_obfuscation",
            ),
            (r#"{"n":17}"#, "n"),
            (r#"{"n":0}"#, "n"),
            (r#"{"metadata":{"user_id":7}}"#, "metadata.user_id"),
            (r#"{"metadata":7}"#, "metadata"),
            (r#"{"n":1.5}"#, "n"),
            (r#"{"store":"yes"}"#, "store"),
            (r#"{"service_tier":1}"#, "service_tier"),
            (r#"{"session_id":7}"#, "session_id"),
            (r#"{"temprature":1}"#, "temprature"),
        ] {
            let error = take(body).unwrap_err();
            assert_eq!((status(error.kind).as_u16(), error.place.as_deref()), (400, Some(param)), "{body}");
        }
    }

    #[test]
    fn the_agent_is_named_by_session_then_cache_key_then_user() {
        let agent = |body: &str| take(body).unwrap().agent;
        assert_eq!(agent(r#"{"metadata":{"user_id":"u","x":"y"}}"#).as_deref(), Some("u"));
        assert_eq!(agent(r#"{"metadata":{"user_id":"u"},"prompt_cache_key":"k"}"#).as_deref(), Some("k"));
        let all = r#"{"metadata":{"user_id":"u"},"prompt_cache_key":"k","session_id":"s"}"#;
        assert_eq!(agent(all).as_deref(), Some("s"));
        assert_eq!(agent(r#"{"user":"somebody"}"#), None);
    }
}
