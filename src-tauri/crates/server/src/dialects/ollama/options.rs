//! `options`: how an answer is steered.

use serde_json::value::RawValue;

use crate::calls::call::RequestedSampling;
use crate::calls::fault::{Fault, shorten};
use crate::dialects::fields::Fields;
use crate::dialects::remarks::Remarks;
use crate::dialects::stops::take_stops;

/// How a model is loaded and run, which is decided for all its requests; and what belongs to a sampler that is off.
const HINTS: &[&str] = &[
    "num_ctx",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "numa",
    "low_vram",
    "f16_kv",
    "use_mmap",
    "use_mlock",
    "vocab_only",
    "mirostat_tau",
    "mirostat_eta",
    "penalize_newline",
];

/// What is asked of an answer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) sampling: RequestedSampling,
    /// Upper bound on the answer's tokens.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
}

/// Take `options` out of a body. What Ollama does not know it passes over with a warning, and so does this.
///
/// # Errors
/// A value is of the wrong type, out of range or not supported.
pub(crate) fn take_options(fields: &mut Fields<'_>, remarks: &mut Remarks) -> Result<Options, Fault> {
    let Some(options) = fields.take::<&RawValue>("options")? else { return Ok(Options::default()) };
    let mut fields = Fields::of_value("options", options)?;
    let mut options = Options { stop: take_stops(&mut fields, "stop")?, ..Options::default() };
    // Below 0 there is no bound but the context.
    options.max_tokens = match fields.take_whole("num_predict")? {
        None => None,
        Some(most) if most < 0 => None,
        Some(most) => Some(usize::try_from(most).unwrap_or(usize::MAX)),
    };
    let choices = &mut options.sampling.choices;
    choices.temperature = fields.take_within("temperature", 0.0..=2.0)?;
    choices.top_p = fields.take_within("top_p", 0.0..=1.0)?;
    choices.top_k = fields.take_count("top_k", 0)?;
    choices.min_p = fields.take_within("min_p", 0.0..=1.0)?;
    choices.frequency_penalty = fields.take_within("frequency_penalty", -2.0..=2.0)?;
    choices.presence_penalty = fields.take_within("presence_penalty", -2.0..=2.0)?;
    choices.repetition_penalty = fields.take_within("repeat_penalty", 0.0..=10.0)?;
    if choices.repetition_penalty == Some(0.0) {
        return Err(Fault::invalid("options.repeat_penalty", "must be above 0; 1 is off"));
    }
    choices.penalty_window = match fields.take_whole("repeat_last_n")? {
        // The whole context.
        Some(-1) => Some(usize::MAX),
        Some(n) if n < 0 => return Err(Fault::invalid("options.repeat_last_n", format!("{n} is below -1"))),
        n => n.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
    };
    options.sampling.seed = match fields.take_whole("seed")? {
        // Only sameness matters.
        Some(seed) => match i64::try_from(seed) {
            Ok(seed) => Some(seed as u64),
            Err(_) => return Err(Fault::invalid("options.seed", format!("{seed} does not fit 64 bits"))),
        },
        None => None,
    };
    fields.refuse("mirostat", &["0"])?;
    fields.refuse("typical_p", &["1"])?;
    fields.refuse("tfs_z", &["1"])?;
    fields.pass(|name| HINTS.contains(&name));
    for name in fields.left() {
        remarks.add(format!("the option '{}' is unknown and was passed over", shorten(name)));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(options: &str) -> Result<(Options, Vec<String>), Fault> {
        let body = format!(r#"{{"options":{options}}}"#);
        let mut remarks = Remarks::default();
        let options = take_options(&mut Fields::of_body(body.as_bytes())?, &mut remarks)?;
        Ok((options, remarks.into_vec()))
    }

    #[test]
    fn every_option_that_steers_an_answer_is_taken() {
        let (options, remarks) = take(
            r#"{"seed":-1,"temperature":0.5,"top_k":40,"top_p":0.9,"min_p":0.05,"repeat_penalty":1.1,
            "repeat_last_n":-1,"presence_penalty":1.5,"frequency_penalty":-1,"stop":["a"],"num_predict":9}"#,
        )
        .unwrap();
        let choices = &options.sampling.choices;
        assert_eq!((options.sampling.seed, choices.temperature), (Some(u64::MAX), Some(0.5)));
        assert_eq!((choices.top_k, choices.top_p, choices.min_p), (Some(40), Some(0.9), Some(0.05)));
        assert_eq!(
            (choices.repetition_penalty, choices.penalty_window, choices.presence_penalty),
            (Some(1.1), Some(usize::MAX), Some(1.5))
        );
        assert_eq!(choices.frequency_penalty, Some(-1.0));
        assert_eq!((options.max_tokens, options.stop), (Some(9), vec!["a".to_owned()]));
        assert_eq!(remarks.len(), 0);
    }

    #[test]
    fn an_answer_without_a_bound_has_two_names_and_hints_pass() {
        for options in [
            r#"{"num_predict":-1}"#,
            r#"{"num_predict":-2}"#,
            "{}",
            "null",
            r#"{"num_ctx":131072,"num_thread":8,"use_mmap":true,"mirostat":0,"mirostat_tau":5.0,"typical_p":1.0}"#,
        ] {
            assert_eq!(take(options), Ok((Options::default(), Vec::new())), "{options}");
        }
        let (options, remarks) = take(r#"{"num_predict":0,"mood":"good"}"#).unwrap();
        assert_eq!((options.max_tokens, remarks.len()), (Some(0), 1));
    }

    #[test]
    fn what_would_change_the_answer_and_cannot_be_had_is_refused_by_name() {
        for (options, place) in [
            ("7", "options"),
            (r#"{"temperature":"hot"}"#, "options.temperature"),
            (r#"{"temperature":3}"#, "options.temperature"),
            (r#"{"top_k":-1}"#, "options.top_k"),
            (r#"{"repeat_penalty":0}"#, "options.repeat_penalty"),
            (r#"{"repeat_last_n":-2}"#, "options.repeat_last_n"),
            (r#"{"mirostat":2}"#, "options.mirostat"),
            (r#"{"typical_p":0.5}"#, "options.typical_p"),
            (r#"{"stop":[""]}"#, "options.stop"),
            (r#"{"seed":1e30}"#, "options.seed"),
        ] {
            assert_eq!(take(options).unwrap_err().place.as_deref(), Some(place), "{options}");
        }
    }
}
