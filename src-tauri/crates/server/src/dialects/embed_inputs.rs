//! Texts for vectors, in the form that APIs have in common: a text or its tokens, or a list of these.

use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fields::Fields;
use super::token_ids::token_ids;
use crate::calls::embed_call::{Input, Inputs, MAX_TEXTS};
use crate::calls::fault::Fault;

const FORMS: &str = "expected a string, a list of token ids, or a list of either";

/// Take the texts out of field `name`.
///
/// # Errors
/// It is absent, has another form, or is a list of none or too many; one of a list is named by its place in it.
pub(crate) fn take_inputs(fields: &mut Fields<'_>, name: &str) -> Result<Inputs, Fault> {
    let path = fields.path(name);
    let Some(value) = fields.take_large::<&RawValue>(name)? else { return Err(Fault::missing(path)) };
    if let Some(one) = input(value.get()) {
        return match one {
            Input::Tokens(tokens) if tokens.is_empty() => Err(Fault::invalid(path, "the list is empty")),
            one => Ok(Inputs::One(one)),
        };
    }
    let Ok(Elements { first, n_more }) = serde_json::from_str(value.get()) else {
        return Err(Fault::invalid(path, FORMS));
    };
    if n_more > 0 {
        let n = first.len() + n_more;
        return Err(Fault::invalid(path, format!("{n} texts where {MAX_TEXTS} are the most in a call")));
    }
    let of_list = |(idx, element): (usize, &RawValue)| {
        input(element.get()).ok_or_else(|| {
            Fault::invalid(format!("{path}.{idx}"), "expected a string or a list of token ids")
        })
    };
    first.into_iter().enumerate().map(of_list).collect::<Result<_, _>>().map(Inputs::List)
}

fn input(json: &str) -> Option<Input> {
    match json.starts_with('"') {
        true => serde_json::from_str(json).ok().map(Input::Text),
        false => token_ids(json).map(Input::Tokens),
    }
}

/// A list of which no more elements are kept than are taken.
struct Elements<'a> {
    first: Vec<&'a RawValue>,
    n_more: usize,
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for Elements<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Elements { first: Vec::new(), n_more: 0 };
                while elements.first.len() < MAX_TEXTS {
                    match seq.next_element()? {
                        Some(element) => elements.first.push(element),
                        None => return Ok(elements),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    elements.n_more += 1;
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(input: &str) -> Result<Inputs, (String, String)> {
        let body = format!(r#"{{"input":{input}}}"#);
        let mut fields = Fields::of_body(body.as_bytes()).unwrap();
        take_inputs(&mut fields, "input").map_err(|fault| (fault.place.unwrap(), fault.message))
    }

    #[test]
    fn texts_are_strings_or_token_ids_alone_or_in_a_list() {
        let text = |text: &str| Input::Text(text.to_owned());
        assert_eq!(take(r#""hi""#), Ok(Inputs::One(text("hi"))));
        assert_eq!(take("[1, 2]"), Ok(Inputs::One(Input::Tokens(vec![1, 2]))));
        assert_eq!(take(r#"["hi"]"#), Ok(Inputs::List(vec![text("hi")])));
        assert_eq!(
            take(r#"["a","",[7]]"#),
            Ok(Inputs::List(vec![text("a"), text(""), Input::Tokens(vec![7])]))
        );
        assert_eq!(
            take("[[1,2],[3]]"),
            Ok(Inputs::List(vec![Input::Tokens(vec![1, 2]), Input::Tokens(vec![3])]))
        );
        let most = format!("[{}\"x\"]", "\"x\",".repeat(MAX_TEXTS - 1));
        assert!(matches!(take(&most), Ok(Inputs::List(list)) if list.len() == MAX_TEXTS));
    }

    #[test]
    fn what_is_no_text_is_named_by_its_place() {
        let too_many = format!("[{}\"x\"]", "\"x\",".repeat(MAX_TEXTS));
        for (input, place, words) in [
            ("null", "input", "missing"),
            ("7", "input", FORMS),
            ("{}", "input", FORMS),
            ("true", "input", FORMS),
            ("[]", "input", "empty"),
            (r#"["a",7]"#, "input.1", "expected"),
            (r#"["a",null]"#, "input.1", "expected"),
            (r#"[[1],["b"]]"#, "input.1", "expected"),
            ("[-1]", "input.0", "expected"),
            ("[[1,-1]]", "input.0", "expected"),
            ("[[[1]]]", "input.0", "expected"),
            (too_many.as_str(), "input", "2049 texts where 2048"),
        ] {
            let (at, message) = take(input).unwrap_err();
            assert_eq!(at, place, "{input:.40}");
            assert!(message.contains(words), "{input:.40}: {message}");
        }
    }
}
