//! Strings that end an answer, as a field says them.

use serde::Deserialize;
use serde::de::Error;

use super::fields::Fields;
use crate::calls::fault::Fault;

/// Stop strings of a request.
const MAX_STOPS: usize = 16;
/// Bytes of one stop string.
const MAX_STOP_BYTES: usize = 1024;

/// Take one string, or a list of a few, out of the field `name`.
///
/// # Errors
/// There are too many, or one is empty or too long.
pub(crate) fn take_stops(fields: &mut Fields<'_>, name: &str) -> Result<Vec<String>, Fault> {
    let Some(OneOrMany(stop)) = fields.take(name)? else { return Ok(Vec::new()) };
    let invalid = |message: String| Err(Fault::invalid(fields.path(name), message));
    if stop.len() > MAX_STOPS {
        return invalid(format!("{} strings where {MAX_STOPS} are the most", stop.len()));
    }
    match stop.iter().find(|text| text.is_empty() || text.len() > MAX_STOP_BYTES) {
        Some(text) if text.is_empty() => invalid("a stop string is empty".to_owned()),
        Some(_) => invalid(format!("a stop string is longer than {MAX_STOP_BYTES} bytes")),
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
