//! How a GGUF's makers recommend to sample it: its `general.sampling.*` keys, as llama.cpp names them.

use std::ops::RangeInclusive;

use engine::SamplingChoices;
use model::{Metadata, MetadataError};

const PREFIX: &str = "general.sampling.";

/// What the file recommends. What is out of range or of another kind is left out with a warning: a recommendation is
/// no reason to refuse a model.
pub(crate) fn recommended_sampling(metadata: &Metadata) -> SamplingChoices {
    let (choices, ignored) = read(metadata);
    for line in ignored {
        tracing::warn!("the model file's recommended sampling is ignored in part: {line}");
    }
    choices
}

/// The choices, and a line for everything that is not taken.
fn read(metadata: &Metadata) -> (SamplingChoices, Vec<String>) {
    let mut reader = Reader { metadata, known: Vec::new(), ignored: Vec::new() };
    let choices = SamplingChoices {
        temperature: reader.number("temp", 0.0..=2.0),
        top_p: reader.number("top_p", 0.0..=1.0),
        top_k: reader.count("top_k", 0),
        min_p: reader.number("min_p", 0.0..=1.0),
        frequency_penalty: None,
        presence_penalty: None,
        repetition_penalty: reader.number("penalty_repeat", 0.1..=10.0),
        penalty_window: reader.count("penalty_last_n", usize::MAX),
    };
    let Reader { known, mut ignored, .. } = reader;
    let ours = |key: &str| key.strip_prefix(PREFIX).is_some_and(|rest| known.contains(&rest));
    let others = metadata.iter().map(|(key, _)| key).filter(|key| key.starts_with(PREFIX) && !ours(key));
    ignored.extend(others.map(|key| format!("metadata key `{key}` is not supported")));
    (choices, ignored)
}

struct Reader<'a> {
    metadata: &'a Metadata,
    known: Vec<&'static str>,
    ignored: Vec<String>,
}

impl Reader<'_> {
    /// A number, which writers store as a float or, when it is a whole one, as an integer.
    fn number(&mut self, name: &'static str, range: RangeInclusive<f32>) -> Option<f32> {
        let key = self.key(name);
        let found = match (self.metadata.find_f32(&key), self.metadata.find_i64(&key)) {
            (Err(MetadataError::WrongType { .. }), Ok(Some(whole))) => Ok(Some(whole as f32)),
            (found, _) => found,
        };
        match self.sound(found)? {
            number if range.contains(&number) => Some(number),
            number => {
                let (least, most) = range.into_inner();
                self.ignored.push(format!("metadata key `{key}` is {number}, not within {least} to {most}"));
                None
            }
        }
    }

    /// A count, of which -1 means `without`.
    fn count(&mut self, name: &'static str, without: usize) -> Option<usize> {
        let key = self.key(name);
        match self.sound(self.metadata.find_i64(&key))? {
            -1 => Some(without),
            count => match usize::try_from(count) {
                Ok(count) => Some(count),
                Err(_) => {
                    self.ignored.push(format!("metadata key `{key}` is {count}, neither -1 nor a count"));
                    None
                }
            },
        }
    }

    fn key(&mut self, name: &'static str) -> String {
        self.known.push(name);
        format!("{PREFIX}{name}")
    }

    fn sound<T>(&mut self, found: Result<Option<T>, MetadataError>) -> Option<T> {
        found.unwrap_or_else(|error| {
            self.ignored.push(error.to_string());
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use model::Value;

    use super::*;

    fn check(keys: &[(&str, Value)], want: SamplingChoices, want_ignored: &[&str]) {
        let metadata = keys.iter().map(|(key, value)| (format!("{PREFIX}{key}"), value.clone())).collect();
        let (got, ignored) = read(&metadata);
        assert_eq!(got, want, "{keys:?}");
        assert_eq!(ignored, want_ignored, "{keys:?}");
    }

    #[test]
    fn what_a_file_recommends_is_taken_field_by_field() {
        check(&[], SamplingChoices::default(), &[]);
        check(
            &[
                ("temp", Value::F32(0.6)),
                ("top_k", Value::I32(20)),
                ("top_p", Value::F32(0.95)),
                ("min_p", Value::F32(0.0)),
                ("penalty_repeat", Value::F32(1.05)),
                ("penalty_last_n", Value::I32(128)),
            ],
            SamplingChoices {
                temperature: Some(0.6),
                top_k: Some(20),
                top_p: Some(0.95),
                min_p: Some(0.0),
                repetition_penalty: Some(1.05),
                penalty_window: Some(128),
                ..SamplingChoices::default()
            },
            &[],
        );
    }

    #[test]
    fn minus_one_is_off_or_everything_and_widths_do_not_matter() {
        for (top_k, want) in [
            (Value::I32(-1), 0),
            (Value::I64(-1), 0),
            (Value::I8(-1), 0),
            (Value::U32(40), 40),
            (Value::U8(0), 0),
            (Value::F32(64.0), 64),
        ] {
            let want = SamplingChoices { top_k: Some(want), ..SamplingChoices::default() };
            check(&[("top_k", top_k)], want, &[]);
        }
        let all = SamplingChoices { penalty_window: Some(usize::MAX), ..SamplingChoices::default() };
        check(&[("penalty_last_n", Value::I32(-1))], all, &[]);
        let whole = SamplingChoices { temperature: Some(1.0), ..SamplingChoices::default() };
        check(&[("temp", Value::U32(1))], whole.clone(), &[]);
        check(&[("temp", Value::F64(1.0))], whole, &[]);
    }

    #[test]
    fn what_cannot_be_is_ignored_and_said() {
        let none = SamplingChoices::default;
        for (name, value, said) in [
            ("temp", Value::F32(-0.5), "metadata key `general.sampling.temp` is -0.5, not within 0 to 2"),
            ("temp", Value::F32(100.0), "metadata key `general.sampling.temp` is 100, not within 0 to 2"),
            ("temp", Value::F32(f32::NAN), "metadata key `general.sampling.temp` is out of range: NaN"),
            ("temp", Value::I32(7), "metadata key `general.sampling.temp` is 7, not within 0 to 2"),
            ("top_p", Value::F32(1.5), "metadata key `general.sampling.top_p` is 1.5, not within 0 to 1"),
            ("min_p", Value::F64(-1.0), "metadata key `general.sampling.min_p` is -1, not within 0 to 1"),
            ("top_k", Value::I32(-7), "metadata key `general.sampling.top_k` is -7, neither -1 nor a count"),
            (
                "penalty_repeat",
                Value::F32(0.0),
                "metadata key `general.sampling.penalty_repeat` is 0, not within 0.1 to 10",
            ),
            (
                "top_p",
                Value::Str("0.9".to_owned()),
                "metadata key `general.sampling.top_p` is a string where a float is needed",
            ),
            ("mirostat", Value::I32(2), "metadata key `general.sampling.mirostat` is not supported"),
        ] {
            check(&[(name, value)], none(), &[said]);
        }
        // What is sound beside it is taken.
        let keys = [("temp", Value::F32(9.0)), ("top_k", Value::I32(3))];
        let taken = SamplingChoices { top_k: Some(3), ..none() };
        check(&keys, taken, &["metadata key `general.sampling.temp` is 9, not within 0 to 2"]);
    }
}
