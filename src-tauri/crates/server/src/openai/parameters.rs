//! The parameters that both generation calls share: each is honoured or refused by name, none is ignored.

use std::collections::BTreeMap;

use engine::Sampling;
use serde::Deserialize;
use serde::de::Error;

use crate::agent_name;
use crate::errors::ApiError;
use crate::fields::Fields;

/// Stop strings of a request.
const MAX_STOPS: usize = 16;
/// Bytes of one stop string.
const MAX_STOP_BYTES: usize = 1024;
/// Entries of a logit bias.
const MAX_BIASES: usize = 1024;

/// The shared parameters, checked as far as they can be without a model.
#[derive(Debug, PartialEq)]
pub(super) struct Parameters {
    pub(super) model: Option<String>,
    pub(super) sampling: Sampling,
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
    pub(super) ignore_end_of_turn: bool,
    pub(super) delivery: Delivery,
    /// The agent's name as the body gives it.
    pub(super) agent: Option<String>,
}

/// How the answer is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// In one piece.
    Whole,
    /// As server-sent events.
    Streamed {
        /// Whether a last chunk tells the usage.
        include_usage: bool,
    },
}

impl Parameters {
    /// Take them out of a body; `defaults` is what an absent sampling parameter means.
    ///
    /// # Errors
    /// A value is of the wrong type, out of range or not supported.
    pub(super) fn take(fields: &mut Fields<'_>, defaults: &Sampling) -> Result<Parameters, ApiError> {
        let parameters = Parameters {
            model: fields.take("model")?,
            sampling: take_sampling(fields, defaults)?,
            max_tokens: take_count(fields, "max_tokens")?,
            stop: take_stop(fields)?,
            ignore_end_of_turn: fields.take("ignore_eos")?.unwrap_or(false),
            delivery: take_delivery(fields)?,
            agent: take_agent(fields)?,
        };
        refuse_common(fields)?;
        Ok(parameters)
    }
}

/// A request that sets a temperature knows what it wants of sampling: the house's choices are for one that does not.
fn take_sampling(fields: &mut Fields<'_>, house: &Sampling) -> Result<Sampling, ApiError> {
    let temperature = fields.take_within("temperature", 0.0..=2.0)?;
    let neutral = Sampling { seed: house.seed, ..Sampling::default() };
    let defaults = if temperature.is_some() { &neutral } else { house };
    let top_p = fields.take_within("top_p", 0.0..=1.0)?;
    if top_p == Some(0.0) {
        return Err(ApiError::invalid(
            "top_p",
            "0 would leave no token; use temperature 0 for greedy decoding",
        ));
    }
    let repetition_penalty = fields.take_within("repetition_penalty", 0.0..=10.0)?;
    if repetition_penalty == Some(0.0) {
        return Err(ApiError::invalid("repetition_penalty", "must be above 0; 1 is off"));
    }
    let top_k = match fields.take::<i64>("top_k")? {
        None => defaults.top_k,
        Some(-1) => 0,
        Some(top_k) => usize::try_from(top_k)
            .map_err(|_| ApiError::invalid("top_k", format!("{top_k} is below 0; 0 or -1 is off")))?,
    };
    Ok(Sampling {
        temperature: temperature.unwrap_or(defaults.temperature),
        top_p: top_p.unwrap_or(defaults.top_p),
        top_k,
        min_p: fields.take_within("min_p", 0.0..=1.0)?.unwrap_or(defaults.min_p),
        frequency_penalty: fields
            .take_within("frequency_penalty", -2.0..=2.0)?
            .unwrap_or(defaults.frequency_penalty),
        presence_penalty: fields
            .take_within("presence_penalty", -2.0..=2.0)?
            .unwrap_or(defaults.presence_penalty),
        repetition_penalty: repetition_penalty.unwrap_or(defaults.repetition_penalty),
        logit_bias: take_logit_bias(fields)?,
        // Any integer is a seed, negative ones too: only sameness matters.
        seed: fields.take::<i64>("seed")?.map(|seed| seed as u64).or(defaults.seed),
    })
}

/// A count of at least 1.
///
/// # Errors
/// It is no whole number, or 0.
pub(super) fn take_count(fields: &mut Fields<'_>, name: &str) -> Result<Option<usize>, ApiError> {
    match fields.take::<usize>(name)? {
        Some(0) => Err(ApiError::invalid(fields.path(name), "must be at least 1")),
        count => Ok(count),
    }
}

/// One string, or a list of a few.
fn take_stop(fields: &mut Fields<'_>) -> Result<Vec<String>, ApiError> {
    let Some(OneOrMany(stop)) = fields.take("stop")? else { return Ok(Vec::new()) };
    if stop.len() > MAX_STOPS {
        return Err(ApiError::invalid(
            "stop",
            format!("{} strings where {MAX_STOPS} are the most", stop.len()),
        ));
    }
    match stop.iter().find(|text| text.is_empty() || text.len() > MAX_STOP_BYTES) {
        Some(text) if text.is_empty() => Err(ApiError::invalid("stop", "a stop string is empty")),
        Some(_) => {
            Err(ApiError::invalid("stop", format!("a stop string is longer than {MAX_STOP_BYTES} bytes")))
        }
        None => Ok(stop),
    }
}

/// A string or a list of strings.
#[derive(Debug)]
struct OneOrMany(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        match Form::deserialize(deserializer) {
            Ok(Form::One(text)) => Ok(OneOrMany(vec![text])),
            Ok(Form::Many(texts)) => Ok(OneOrMany(texts)),
            Err(_) => Err(D::Error::custom("expected a string or a list of strings")),
        }
    }
}

/// Token ids as strings of digits, each with what is added to its logit.
fn take_logit_bias(fields: &mut Fields<'_>) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(biases) = fields.take::<BTreeMap<String, f64>>("logit_bias")? else { return Ok(Vec::new()) };
    if biases.len() > MAX_BIASES {
        let message = format!("{} entries where {MAX_BIASES} are the most", biases.len());
        return Err(ApiError::invalid("logit_bias", message));
    }
    let parse = |(token, bias): (String, f64)| match token.parse::<u32>() {
        Err(_) => Err(ApiError::invalid("logit_bias", "a key is not a token id")),
        Ok(_) if !(-100.0..=100.0).contains(&bias) => {
            Err(ApiError::invalid("logit_bias", format!("{bias} is not within -100 to 100")))
        }
        Ok(token) => Ok((token, bias as f32)),
    };
    biases.into_iter().map(parse).collect()
}

fn take_delivery(fields: &mut Fields<'_>) -> Result<Delivery, ApiError> {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct StreamOptions {
        include_usage: Option<bool>,
        include_obfuscation: Option<bool>,
    }
    let stream = fields.take::<bool>("stream")?.unwrap_or(false);
    let options = fields.take::<StreamOptions>("stream_options")?;
    match (stream, options) {
        (false, Some(_)) => Err(ApiError::invalid("stream_options", "only allowed when 'stream' is true")),
        (false, None) => Ok(Delivery::Whole),
        (true, Some(StreamOptions { include_obfuscation: Some(true), .. })) => Err(ApiError::unsupported(
            "stream_options.include_obfuscation",
            "'include_obfuscation' is not supported",
        )),
        (true, options) => Ok(Delivery::Streamed {
            include_usage: options.and_then(|options| options.include_usage).unwrap_or(false),
        }),
    }
}

/// `session_id`, `prompt_cache_key`, `metadata.user_id`, in this order.
fn take_agent(fields: &mut Fields<'_>) -> Result<Option<String>, ApiError> {
    let session_id = fields.take("session_id")?;
    let prompt_cache_key = fields.take("prompt_cache_key")?;
    let metadata = fields.take::<BTreeMap<String, String>>("metadata")?;
    let user_id = metadata.and_then(|mut metadata| metadata.remove("user_id"));
    Ok(agent_name::from_body([session_id, prompt_cache_key, user_id]))
}

/// What both APIs have and this server does not do; values that ask for what happens anyway pass.
fn refuse_common(fields: &mut Fields<'_>) -> Result<(), ApiError> {
    fields.refuse("n", &["1"])?;
    // Who the end user is matters to a company that bills and bans, not here.
    fields.take::<String>("user")?;
    fields.take::<String>("safety_identifier")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> Result<Parameters, ApiError> {
        take_with(body, &Sampling::default())
    }

    #[test]
    fn the_house_chooses_only_where_the_request_sets_no_temperature() {
        let house =
            Sampling { temperature: 0.25, top_k: 40, repetition_penalty: 1.125, ..Sampling::default() };
        let silent = take_with("{}", &house).unwrap().sampling;
        assert_eq!(silent, house);
        let partly = take_with(r#"{"top_k":7}"#, &house).unwrap().sampling;
        assert_eq!(partly, Sampling { top_k: 7, ..house.clone() });
        let greedy = take_with(r#"{"temperature":0}"#, &house).unwrap().sampling;
        assert_eq!(greedy, Sampling { temperature: 0.0, ..Sampling::default() });
    }

    fn take_with(body: &str, house: &Sampling) -> Result<Parameters, ApiError> {
        let mut fields = Fields::of_body(body.as_bytes())?;
        let parameters = Parameters::take(&mut fields, house)?;
        fields.finish()?;
        Ok(parameters)
    }

    #[test]
    fn absent_and_null_parameters_mean_the_defaults() {
        let want = Parameters {
            model: None,
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            ignore_end_of_turn: false,
            delivery: Delivery::Whole,
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
            r#"{"model":"m","temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"frequency_penalty":-1,
                "presence_penalty":1.5,"repetition_penalty":1.1,"logit_bias":{"5":-100,"7":2.5},"seed":-1,
                "max_tokens":9,"stop":["a","b"],"ignore_eos":true,"stream":true,"n":1,"user":"u",
                "stream_options":{"include_usage":true},"prompt_cache_key":"research"}"#,
        );
        let want = Parameters {
            model: Some("m".into()),
            sampling: Sampling {
                temperature: 0.5,
                top_p: 0.9,
                top_k: 40,
                min_p: 0.05,
                frequency_penalty: -1.0,
                presence_penalty: 1.5,
                repetition_penalty: 1.1,
                logit_bias: vec![(5, -100.0), (7, 2.5)],
                seed: Some(u64::MAX),
            },
            max_tokens: Some(9),
            stop: vec!["a".into(), "b".into()],
            ignore_end_of_turn: true,
            delivery: Delivery::Streamed { include_usage: true },
            agent: Some("research".into()),
        };
        assert_eq!(got, Ok(want));
        assert_eq!(take(r#"{"stop":"x"}"#).unwrap().stop, ["x"]);
        assert_eq!(take(r#"{"top_k":-1}"#).unwrap().sampling.top_k, 0);
    }

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_parameter() {
        let many_stops = format!(r#"{{"stop":[{}"x"]}}"#, "\"x\",".repeat(16));
        let long_stop = format!(r#"{{"stop":"{}"}}"#, "x".repeat(1025));
        for (body, param) in [
            (r#"{"temperature":2.1}"#, "temperature"),
            (r#"{"temperature":-0.1}"#, "temperature"),
            (r#"{"temperature":"1"}"#, "temperature"),
            (r#"{"temperature":1e999}"#, "temperature"),
            (r#"{"top_p":0}"#, "top_p"),
            (r#"{"top_p":1.01}"#, "top_p"),
            (r#"{"top_k":-2}"#, "top_k"),
            (r#"{"top_k":1.5}"#, "top_k"),
            (r#"{"min_p":2}"#, "min_p"),
            (r#"{"frequency_penalty":3}"#, "frequency_penalty"),
            (r#"{"presence_penalty":-3}"#, "presence_penalty"),
            (r#"{"repetition_penalty":0}"#, "repetition_penalty"),
            (r#"{"logit_bias":{"x":1}}"#, "logit_bias"),
            (r#"{"logit_bias":{"1":101}}"#, "logit_bias"),
            (r#"{"logit_bias":[1]}"#, "logit_bias"),
            (r#"{"seed":1.5}"#, "seed"),
            (r#"{"max_tokens":0}"#, "max_tokens"),
            (r#"{"max_tokens":-1}"#, "max_tokens"),
            (r#"{"max_tokens":"9"}"#, "max_tokens"),
            (r#"{"stop":""}"#, "stop"),
            (r#"{"stop":["a",""]}"#, "stop"),
            (r#"{"stop":7}"#, "stop"),
            (&many_stops, "stop"),
            (&long_stop, "stop"),
            (r#"{"stream":"yes"}"#, "stream"),
            (r#"{"stream_options":{"include_usage":true}}"#, "stream_options"),
            (r#"{"stream":true,"stream_options":{"x":1}}"#, "stream_options"),
            (
                r#"{"stream":true,"stream_options":{"include_obfuscation":true}}"#,
                "stream_options.include_obfuscation",
            ),
            (r#"{"n":2}"#, "n"),
            (r#"{"metadata":{"user_id":7}}"#, "metadata"),
            (r#"{"session_id":7}"#, "session_id"),
            (r#"{"temprature":1}"#, "temprature"),
        ] {
            let error = take(body).unwrap_err();
            assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)), "{body}");
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
