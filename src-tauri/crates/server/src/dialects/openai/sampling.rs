//! What a request says of sampling.

use std::collections::BTreeMap;

use text::TokenId;

use crate::calls::call::RequestedSampling;
use crate::calls::fault::Fault;
use crate::dialects::fields::Fields;

/// Entries of a logit bias.
const MAX_BIASES: usize = 1024;

/// Take the sampling fields out of a body.
///
/// # Errors
/// A value is of the wrong type or out of range.
pub(crate) fn take_sampling(fields: &mut Fields<'_>) -> Result<RequestedSampling, Fault> {
    let temperature = fields.take_within("temperature", 0.0..=2.0)?;
    let top_p = fields.take_within("top_p", 0.0..=1.0)?;
    let repetition_penalty = fields.take_within("repetition_penalty", 0.0..=10.0)?;
    if repetition_penalty == Some(0.0) {
        return Err(Fault::invalid("repetition_penalty", "must be above 0; 1 is off"));
    }
    let top_k = match fields.take_whole("top_k")? {
        Some(-1) => Some(0),
        Some(top_k) if top_k < 0 => {
            return Err(Fault::invalid("top_k", format!("{top_k} is below 0; 0 or -1 is off")));
        }
        // More than there are tokens is all of them.
        top_k => top_k.map(|top_k| usize::try_from(top_k).unwrap_or(usize::MAX)),
    };
    let mut sampling = RequestedSampling::default();
    let choices = &mut sampling.choices;
    choices.temperature = temperature;
    choices.top_p = top_p;
    choices.top_k = top_k;
    choices.min_p = fields.take_within("min_p", 0.0..=1.0)?;
    choices.frequency_penalty = fields.take_within("frequency_penalty", -2.0..=2.0)?;
    choices.presence_penalty = fields.take_within("presence_penalty", -2.0..=2.0)?;
    choices.repetition_penalty = repetition_penalty;
    sampling.logit_bias = take_logit_bias(fields)?;
    sampling.seed = take_seed(fields)?;
    Ok(sampling)
}

/// Any whole number is a seed, negative ones too: only sameness matters.
fn take_seed(fields: &mut Fields<'_>) -> Result<Option<u64>, Fault> {
    let Some(seed) = fields.take_whole("seed")? else { return Ok(None) };
    let bits = i64::try_from(seed).map(|seed| seed as u64).or_else(|_| u64::try_from(seed));
    match bits {
        Ok(bits) => Ok(Some(bits)),
        Err(_) => Err(Fault::invalid("seed", format!("{seed} does not fit 64 bits"))),
    }
}

/// Token ids as strings of digits, each with what is added to its logit.
fn take_logit_bias(fields: &mut Fields<'_>) -> Result<Vec<(TokenId, f32)>, Fault> {
    let Some(biases) = fields.take::<BTreeMap<String, f64>>("logit_bias")? else { return Ok(Vec::new()) };
    if biases.len() > MAX_BIASES {
        let message = format!("{} entries where {MAX_BIASES} are the most", biases.len());
        return Err(Fault::invalid("logit_bias", message));
    }
    let parse = |(token, bias): (String, f64)| match token.parse::<TokenId>() {
        Err(_) => Err(Fault::invalid("logit_bias", "a key is not a token id")),
        Ok(_) if !(-100.0..=100.0).contains(&bias) => {
            Err(Fault::invalid("logit_bias", format!("{bias} is not within -100 to 100")))
        }
        Ok(token) => Ok((token, bias as f32)),
    };
    biases.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fault::status;
    use super::*;

    fn take(body: &str) -> Result<RequestedSampling, Fault> {
        let mut fields = Fields::of_body(body.as_bytes())?;
        let sampling = take_sampling(&mut fields)?;
        fields.finish()?;
        Ok(sampling)
    }

    #[test]
    fn every_field_is_taken_and_an_absent_one_is_left_to_others() {
        let got = take(
            r#"{"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"frequency_penalty":-1,
                "presence_penalty":1.5,"repetition_penalty":1.1,"logit_bias":{"5":-100,"7":2.5},"seed":-1}"#,
        );
        let mut want = RequestedSampling {
            logit_bias: vec![(5, -100.0), (7, 2.5)],
            seed: Some(u64::MAX),
            ..RequestedSampling::default()
        };
        want.choices.temperature = Some(0.5);
        want.choices.top_p = Some(0.9);
        want.choices.top_k = Some(40);
        want.choices.min_p = Some(0.05);
        want.choices.frequency_penalty = Some(-1.0);
        want.choices.presence_penalty = Some(1.5);
        want.choices.repetition_penalty = Some(1.1);
        assert_eq!(got, Ok(want));
        assert_eq!(take("{}"), Ok(RequestedSampling::default()));
        let nulls = r#"{"temperature":null,"top_p":null,"top_k":null,"min_p":null,"logit_bias":null,"seed":null,
            "frequency_penalty":null,"presence_penalty":null,"repetition_penalty":null}"#;
        assert_eq!(take(nulls), take("{}"));
    }

    #[test]
    fn a_value_counts_and_not_how_it_is_written() {
        let top_k = |text: &str| take(&format!(r#"{{"top_k":{text}}}"#)).unwrap().choices.top_k;
        for (text, want) in [
            ("-1", 0),
            ("-1.0", 0),
            ("0", 0),
            ("40.0", 40),
            ("4e1", 40),
            ("99999999999999999999", usize::MAX),
        ] {
            assert_eq!(top_k(text), Some(want), "{text}");
        }
        let seed = |text: &str| take(&format!(r#"{{"seed":{text}}}"#)).unwrap().seed;
        for (text, want) in [("7", 7), ("7.0", 7), ("-1", u64::MAX), ("18446744073709551615", u64::MAX)] {
            assert_eq!(seed(text), Some(want), "{text}");
        }
        assert_eq!(take(r#"{"top_p":0}"#).unwrap().choices.top_p, Some(0.0), "the likeliest token alone");
        assert_eq!(take(r#"{"temperature":1}"#).unwrap().choices.temperature, Some(1.0));
    }

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_field() {
        for (body, param) in [
            (r#"{"temperature":2.1}"#, "temperature"),
            (r#"{"temperature":-0.1}"#, "temperature"),
            (r#"{"temperature":"1"}"#, "temperature"),
            (r#"{"temperature":1e999}"#, "temperature"),
            (r#"{"top_p":-0.1}"#, "top_p"),
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
            (r#"{"seed":1e30}"#, "seed"),
            (r#"{"seed":"1"}"#, "seed"),
        ] {
            let error = take(body).unwrap_err();
            assert_eq!((status(error.kind).as_u16(), error.place.as_deref()), (400, Some(param)), "{body}");
        }
    }
}
