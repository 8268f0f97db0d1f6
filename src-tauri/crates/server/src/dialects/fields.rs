//! A JSON object taken apart field by field, so that every complaint names the field, nothing is ignored,
//! and nothing unknown is ever built in memory.

use std::fmt;

use serde::Deserialize;
use serde::de::{Error, Expected, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::calls::fault::{Fault, shorten};

/// More fields than any API has.
const MAX_FIELDS: usize = 256;
/// Elements of a list: messages of a conversation, parts of a message.
const MAX_ELEMENTS: usize = 16_384;
/// Bytes of a field's JSON, but for those that carry a prompt: what is built from a value may be larger than its
/// text many times over.
const MAX_SMALL_BYTES: usize = 64 << 10;
/// How deep lists and objects of a value may lie within each other: the library's own bound.
const MAX_NESTING: usize = 127;
/// Bytes of a value, with its white space, that may be the same as a short one.
const MAX_SAME_BYTES: usize = 4 << 10;

/// The fields of an object that nobody has taken yet; the values are slices of the body.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    /// What the object is called in complaints: empty for the body itself, else `messages[3].` and the like.
    prefix: String,
    left: Vec<(String, &'a RawValue)>,
}

/// An object as its names and unparsed values.
struct RawObject<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
                Err(no_text(&self))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(String, &RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if fields.len() == MAX_FIELDS {
                        return Err(A::Error::custom(format_args!("more than {MAX_FIELDS} fields")));
                    }
                    if fields.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom(format_args!("field `{}` twice", shorten(&name))));
                    }
                    fields.push((name, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_any(Object).map(RawObject)
    }
}

/// What is said of a text in the wrong place. The library's words have the whole text in them, which may be as long as a
/// body and longer when it is quoted.
fn no_text<E: Error>(expected: &dyn Expected) -> E {
    E::invalid_type(Unexpected::Other("string"), expected)
}

/// A list as its unparsed elements, at most [`MAX_ELEMENTS`].
#[derive(Debug)]
pub(crate) struct RawList<'a>(pub(crate) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for RawList<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
                Err(no_text(&self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element::<&RawValue>()? {
                    if elements.len() == MAX_ELEMENTS {
                        return Err(A::Error::custom(format_args!("more than {MAX_ELEMENTS} elements")));
                    }
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_any(List).map(RawList)
    }
}

impl<'a> Fields<'a> {
    /// The fields of a request's body.
    ///
    /// # Errors
    /// It is no JSON object, or has a field twice or too many.
    pub(crate) fn of_body(body: &'a [u8]) -> Result<Fields<'a>, Fault> {
        match serde_json::from_slice::<RawObject<'a>>(body) {
            Ok(RawObject(left)) => Ok(Fields { prefix: String::new(), left }),
            Err(error) => Err(Fault::bad_json(format!("the body is not a JSON object: {error}"))),
        }
    }

    /// The fields of an object within: `path` is what it is called in complaints, `messages[3]` for example.
    ///
    /// # Errors
    /// As [`Fields::of_body`], naming the path.
    pub(crate) fn of_value(path: &str, value: &'a RawValue) -> Result<Fields<'a>, Fault> {
        match serde_json::from_str::<RawObject<'a>>(value.get()) {
            Ok(RawObject(left)) => Ok(Fields { prefix: format!("{path}."), left }),
            Err(error) => Err(Fault::invalid(path, reason(&error))),
        }
    }

    /// What field `name` is called in complaints.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Take a field; `null` is as good as absent.
    ///
    /// # Errors
    /// It has another type, or is longer than anything but a prompt has reason to be.
    pub(crate) fn take<T: Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, Fault> {
        match self.left.iter().find(|(other, _)| other == name) {
            Some((_, value)) if value.get().len() > MAX_SMALL_BYTES => {
                let message = format!("longer than {MAX_SMALL_BYTES} bytes");
                Err(Fault::invalid(self.path(name), message))
            }
            _ => self.take_large(name),
        }
    }

    /// Take a field that may be as long as a body. `T` must not be larger than its JSON by much.
    ///
    /// # Errors
    /// It has another type.
    pub(crate) fn take_large<T: Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, Fault> {
        let Some(at) = self.left.iter().position(|(other, _)| other == name) else { return Ok(None) };
        let (name, value) = self.left.swap_remove(at);
        serde_json::from_str(value.get()).map_err(|error| Fault::invalid(self.path(&name), reason(&error)))
    }

    /// A field as it was sent, which stays to be taken.
    pub(crate) fn look(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.left.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    /// Take a field that must be there.
    ///
    /// # Errors
    /// It is absent, `null`, or has another type.
    pub(crate) fn need<T: Deserialize<'a>>(&mut self, name: &str) -> Result<T, Fault> {
        self.take(name)?.ok_or_else(|| Fault::missing(self.path(name)))
    }

    /// Take a number that must lie within `range`.
    ///
    /// # Errors
    /// It is no number or lies outside.
    pub(crate) fn take_within(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<Option<f32>, Fault> {
        match self.take::<f64>(name)? {
            Some(value) if !range.contains(&value) => {
                let message = format!("{value} is not within {} to {}", range.start(), range.end());
                Err(Fault::invalid(self.path(name), message))
            }
            value => Ok(value.map(|value| value as f32)),
        }
    }

    /// Take a whole number, however it is written.
    ///
    /// # Errors
    /// It is no whole number.
    pub(crate) fn take_whole(&mut self, name: &str) -> Result<Option<i128>, Fault> {
        Ok(self.take::<Whole>(name)?.map(|Whole(number)| number))
    }

    /// Take a whole number that must lie within `range`.
    ///
    /// # Errors
    /// It is no whole number or lies outside.
    pub(crate) fn take_whole_within(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, Fault> {
        let Some(number) = self.take_whole(name)? else { return Ok(None) };
        match usize::try_from(number).ok().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let message = format!("{number} is not within {} to {}", range.start(), range.end());
                Err(Fault::invalid(self.path(name), message))
            }
        }
    }

    /// Take a whole number that must be `least` or more; what no memory holds is as good as the most that it does.
    ///
    /// # Errors
    /// It is no whole number, or less.
    pub(crate) fn take_count(&mut self, name: &str, least: usize) -> Result<Option<usize>, Fault> {
        let Some(number) = self.take_whole(name)? else { return Ok(None) };
        if number < least as i128 {
            return Err(Fault::invalid(self.path(name), format!("{number} is below {least}")));
        }
        Ok(Some(usize::try_from(number).unwrap_or(usize::MAX)))
    }

    /// Pass over hints that cannot change an answer: whatever they say.
    pub(crate) fn pass(&mut self, is_hint: impl Fn(&str) -> bool) {
        self.left.retain(|(name, _)| !is_hint(name));
    }

    /// Refuse a feature that the API has and this server lacks, unless the value asks for what happens anyway:
    /// `null`, or what means the same as one of `harmless` (JSON texts), however it is written.
    ///
    /// # Errors
    /// The value asks for the feature.
    pub(crate) fn refuse(&mut self, name: &str, harmless: &[&str]) -> Result<(), Fault> {
        match self.take_large::<&RawValue>(name)? {
            None => Ok(()),
            Some(value) if harmless.iter().any(|other| means_the_same(value.get(), other)) => Ok(()),
            Some(_) => Err(Fault::unsupported(self.path(name), format!("'{name}' is not supported"))),
        }
    }

    /// The names of the fields that nobody has taken and that are not `null`.
    pub(crate) fn left(&self) -> impl Iterator<Item = &str> {
        self.left.iter().filter(|(_, value)| value.get() != "null").map(|(name, _)| name.as_str())
    }

    /// That everything was taken but what is `null`, which is as good as absent.
    ///
    /// # Errors
    /// A field is left that nobody knows.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        match self.left.iter().find(|(_, value)| value.get() != "null") {
            Some((name, _)) => Err(Fault::unknown(self.path(&shorten(name)))),
            None => Ok(()),
        }
    }
}

/// A whole number: `4`, `4.0` and `4e0` are the same one.
struct Whole(i128);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
                match number.fract() == 0.0 {
                    // Far beyond what any field takes; the conversion ends at the largest number there is.
                    true => Ok(Whole(number as i128)),
                    false => Err(E::invalid_type(Unexpected::Float(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// Whether two JSON texts have the same value.
fn means_the_same(one: &str, other: &str) -> bool {
    // What is this much longer than a short value can only be another one; nothing large is built.
    if one.len() > MAX_SAME_BYTES {
        return false;
    }
    match (serde_json::from_str::<Value>(one), serde_json::from_str::<Value>(other)) {
        (Ok(one), Ok(other)) => is_same(&one, &other),
        _ => false,
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let has = |(name, value): (&String, &Value)| other.get(name).is_some_and(|v| is_same(value, v));
            one.len() == other.len() && one.iter().all(has)
        }
        _ => one == other,
    }
}

/// A parse error without its position, which would be one within the field.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    if text == "recursion limit exceeded" {
        return format!("lists and objects are nested more than {MAX_NESTING} deep");
    }
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::fault::FaultKind;

    fn param_and_message(error: Fault) -> String {
        format!("{}: {}", error.place.unwrap_or_default(), error.message)
    }

    #[test]
    fn a_complaint_names_the_field_and_says_what_is_wrong() {
        let mut fields = Fields::of_body(br#"{"temperature":"hot","top_p":7,"seed":null}"#).unwrap();
        let error = fields.take_within("temperature", 0.0..=2.0).unwrap_err();
        assert_eq!(param_and_message(error), "temperature: invalid type: string \"hot\", expected f64");
        let error = fields.take_within("top_p", 0.0..=1.0).unwrap_err();
        assert_eq!(param_and_message(error), "top_p: 7 is not within 0 to 1");
        assert_eq!(fields.take::<i64>("seed"), Ok(None));
        assert_eq!(fields.need::<String>("prompt").unwrap_err().place.as_deref(), Some("prompt"));
        assert_eq!(fields.finish(), Ok(()));
    }

    #[test]
    fn nothing_is_ignored() {
        let mut fields = Fields::of_body(br#"{"a":1,"typo":2}"#).unwrap();
        assert_eq!(fields.take::<u8>("a"), Ok(Some(1)));
        assert_eq!(fields.finish().unwrap_err().place.as_deref(), Some("typo"));
    }

    #[test]
    fn a_missing_feature_is_refused_unless_the_value_asks_for_nothing() {
        let refuse = |body: &str| Fields::of_body(body.as_bytes()).unwrap().refuse("n", &["1"]);
        assert_eq!(refuse(r#"{}"#), Ok(()));
        assert_eq!(refuse(r#"{"n":null}"#), Ok(()));
        assert_eq!(refuse(r#"{"n":1}"#), Ok(()));
        assert_eq!(refuse(r#"{"n":2}"#).unwrap_err().place.as_deref(), Some("n"));
    }

    #[test]
    fn values_are_compared_and_not_how_they_are_written() {
        for (value, harmless, same) in [
            ("[ ]", "[]", true),
            ("[\n  ]", "[]", true),
            ("1.0", "1", true),
            ("1e0", "1", true),
            ("10E-1", "1", true),
            ("-0.0", "0", true),
            (r#"[ "text" ]"#, r#"["text"]"#, true),
            (r#""\u0061uto""#, r#""auto""#, true),
            (r#"{"a": 1.0, "b": [ ]}"#, r#"{"b":[],"a":1}"#, true),
            (" true", "true", true),
            ("[[]]", "[]", false),
            ("1.5", "1", false),
            ("\"1\"", "1", false),
            ("true", "1", false),
            ("{}", "[]", false),
            (r#"["text","text"]"#, r#"["text"]"#, false),
            (r#"{"a":1,"c":1}"#, r#"{"a":1,"b":1}"#, false),
        ] {
            let body = format!(r#"{{"x":{value}}}"#);
            let got = Fields::of_body(body.as_bytes()).unwrap().refuse("x", &[harmless]);
            assert_eq!(got.is_ok(), same, "{value} {harmless}");
        }
        for large in
            [format!("[{}1]", "1,".repeat(100_000)), format!("{}1{}", "[".repeat(120), "]".repeat(120))]
        {
            let body = format!(r#"{{"x":{large}}}"#);
            let got = Fields::of_body(body.as_bytes()).unwrap().refuse("x", &["[]"]);
            assert_eq!(got.unwrap_err().kind, FaultKind::UnsupportedParameter, "{large:.40}");
        }
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_float() {
        let whole = |text: &str| {
            let body = format!(r#"{{"x":{text}}}"#);
            let got = Fields::of_body(body.as_bytes()).unwrap().take_whole("x");
            got.map_err(|error| error.message)
        };
        for (text, want) in [("4", 4), ("4.0", 4), ("4e2", 400), ("-1", -1), ("-1.0", -1), ("0.0", 0)] {
            assert_eq!(whole(text), Ok(Some(want)), "{text}");
        }
        assert_eq!(whole("18446744073709551615"), Ok(Some(u64::MAX.into())));
        assert_eq!(whole("null"), Ok(None));
        assert_eq!(whole("1.5").unwrap_err(), "invalid type: floating point `1.5`, expected a whole number");
        for text in ["\"4\"", "true", "[4]", "{}", "1e400"] {
            assert!(whole(text).is_err(), "{text}");
        }
        let within = |text: &str| {
            let body = format!(r#"{{"x":{text}}}"#);
            Fields::of_body(body.as_bytes()).unwrap().take_whole_within("x", 0..=5).map_err(|e| e.message)
        };
        assert_eq!(within("5.0"), Ok(Some(5)));
        assert_eq!(within("6").unwrap_err(), "6 is not within 0 to 5");
        assert_eq!(within("-1").unwrap_err(), "-1 is not within 0 to 5");
        assert!(within("1e300").is_err());
    }

    #[test]
    fn a_null_is_as_good_as_absent_and_hints_are_passed_over() {
        let mut fields = Fields::of_body(br#"{"typo":null,"hint":{"a":[1]},"hint_too":3}"#).unwrap();
        fields.pass(|name| name.starts_with("hint"));
        assert_eq!(fields.finish(), Ok(()));
    }

    #[test]
    fn bodies_that_are_no_object_are_refused() {
        let many = format!("{{{}}}", (0..300).map(|i| format!("\"f{i}\":0")).collect::<Vec<_>>().join(","));
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        for body in ["", "[]", "1", "{", "{\"a\":1,\"a\":2}", "{\"a\":}", "\u{feff}{}", &many, &deep] {
            let error = Fields::of_body(body.as_bytes()).unwrap_err();
            assert_eq!(error.kind, FaultKind::InvalidJson, "{}", shorten(body));
        }
        assert!(Fields::of_body(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_refusal_does_not_repeat_a_text_that_stands_where_an_object_or_a_list_is_wanted() {
        let text = format!("\"{}\"", "\u{7f}".repeat(1 << 20));
        let refused = Fields::of_body(text.as_bytes()).unwrap_err();
        assert_eq!(
            refused.message,
            "the body is not a JSON object: invalid type: string, expected an object at line 1 column 1048578"
        );
        let body = format!("{{\"messages\":{text},\"message\":{text}}}");
        let mut fields = Fields::of_body(body.as_bytes()).unwrap();
        let error = fields.take_large::<RawList<'_>>("messages").unwrap_err();
        assert_eq!(param_and_message(error), "messages: invalid type: string, expected a list");
        let value = fields.take_large::<&RawValue>("message").unwrap().unwrap();
        let error = Fields::of_value("message", value).unwrap_err();
        assert_eq!(param_and_message(error), "message: invalid type: string, expected an object");
    }

    #[test]
    fn small_fields_and_lists_are_bounded() {
        let body = format!(r#"{{"stop":"{}","prompt":"{0}"}}"#, "x".repeat(MAX_SMALL_BYTES));
        let mut fields = Fields::of_body(body.as_bytes()).unwrap();
        assert_eq!(fields.take::<String>("stop").unwrap_err().place.as_deref(), Some("stop"));
        assert_eq!(fields.take_large::<String>("prompt").unwrap().unwrap().len(), MAX_SMALL_BYTES);
        let body = format!(r#"{{"messages":[{}0]}}"#, "0,".repeat(MAX_ELEMENTS));
        let mut fields = Fields::of_body(body.as_bytes()).unwrap();
        let error = fields.take_large::<RawList<'_>>("messages").unwrap_err();
        assert_eq!(param_and_message(error), "messages: more than 16384 elements");
    }

    #[test]
    fn a_nested_object_is_named_with_its_path() {
        let mut fields = Fields::of_body("{\"messages\":[{\"rôle\":1}]}".as_bytes()).unwrap();
        let RawList(messages) = fields.take_large("messages").unwrap().unwrap();
        let inner = Fields::of_value("messages[0]", messages[0]).unwrap();
        assert_eq!(inner.finish().unwrap_err().place.as_deref(), Some("messages[0].rôle"));
    }
}
