//! A call's arguments as the object that some APIs have them in.

use serde_json::value::RawValue;

/// The arguments as the model wrote them. Of a call that was cut, or whose arguments are no object, there is none: what
/// there is goes into one, by the name that Anthropic gives it.
pub(crate) fn as_object(arguments: &str) -> Box<RawValue> {
    let raw = |json: String| RawValue::from_string(json).ok().filter(|raw| raw.get().starts_with('{'));
    let empty = || raw("{}".to_owned()).expect("an empty object is JSON");
    if arguments.trim().is_empty() {
        return empty();
    }
    let wrapped = || raw(serde_json::json!({ "INVALID_JSON": arguments }).to_string());
    raw(arguments.trim().to_owned()).or_else(wrapped).unwrap_or_else(empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_model_wrote_is_an_object_and_whole_ones_are_as_it_wrote_them() {
        for (arguments, want) in [
            ("{\"b\": 1,  \"a\":2}", "{\"b\": 1,  \"a\":2}"),
            ("\n{}\n", "{}"),
            ("", "{}"),
            ("{\"a\": 1", "{\"INVALID_JSON\":\"{\\\"a\\\": 1\"}"),
            ("[1]", "{\"INVALID_JSON\":\"[1]\"}"),
        ] {
            assert_eq!(as_object(arguments).get(), want, "{arguments}");
        }
    }
}
