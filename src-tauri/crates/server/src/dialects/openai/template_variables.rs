//! What a request tells the chat template beside the messages: `chat_template_kwargs` and the hints that some
//! templates know by their OpenAI names.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::calls::fault::{Fault, shorten};
use crate::calls::thinking::{Effort, Thinking};
use crate::dialects::fields::Fields;

const NAME: &str = "chat_template_kwargs";
/// Values in it, nested ones included: a template may take some steps for each.
const MAX_VALUES: usize = 1024;
/// Objects and lists within each other.
const MAX_DEPTH: usize = 16;

/// What the server itself tells a template, and what it is built from: a client's value would contradict them.
const RESERVED: &[&str] = &[
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "raise_exception",
    "strftime_now",
    "namespace",
    "range",
    "dict",
    "loop",
    "self",
    "caller",
];

const VERBOSITIES: &[&str] = &["low", "medium", "high"];

/// Take the variables out of a body. A template that knows a variable heeds it; for a model whose template does not,
/// it means nothing.
///
/// # Errors
/// `chat_template_kwargs` is no object, too large, or names what the server decides; a hint is none of its words.
pub(crate) fn take_template_variables(fields: &mut Fields<'_>) -> Result<Map<String, Value>, Fault> {
    let mut variables = match fields.take::<&RawValue>(NAME)? {
        Some(value) => parse(value)?,
        None => Map::new(),
    };
    if let Some(verbosity) = take_word(fields, "verbosity", VERBOSITIES)? {
        variables.entry("verbosity").or_insert_with(|| verbosity.into());
    }
    Ok(variables)
}

/// Take what a body says of thinking.
///
/// # Errors
/// It says it in a word that the API does not have.
pub(crate) fn take_thinking(fields: &mut Fields<'_>) -> Result<Thinking, Fault> {
    let words: Vec<&'static str> = Effort::ALL.iter().map(|effort| effort.name()).collect();
    let effort = take_word(fields, "reasoning_effort", &words)?.and_then(Effort::named);
    Ok(Thinking { effort, ..Thinking::default() })
}

fn parse(value: &RawValue) -> Result<Map<String, Value>, Fault> {
    let not_an_object = || Fault::invalid(NAME, "an object is wanted");
    let Ok(Value::Object(variables)) = serde_json::from_str::<Value>(value.get()) else {
        return Err(not_an_object());
    };
    if let Some(name) = variables.keys().find(|name| RESERVED.contains(&name.as_str())) {
        let message = "the server itself says this to the template";
        return Err(Fault::invalid(format!("{NAME}.{}", shorten(name)), message));
    }
    let mut n_values = 0;
    for value in variables.values() {
        measure(value, 1, &mut n_values)?;
    }
    Ok(variables)
}

/// Count the values, and refuse what is too deep or too many.
fn measure(value: &Value, depth: usize, n_values: &mut usize) -> Result<(), Fault> {
    *n_values += 1;
    if *n_values > MAX_VALUES {
        return Err(Fault::invalid(NAME, format!("more than {MAX_VALUES} values")));
    }
    if depth > MAX_DEPTH {
        return Err(Fault::invalid(NAME, format!("nested deeper than {MAX_DEPTH}")));
    }
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| measure(value, depth + 1, n_values)),
        Value::Object(object) => object.values().try_for_each(|value| measure(value, depth + 1, n_values)),
        _ => Ok(()),
    }
}

fn take_word(
    fields: &mut Fields<'_>,
    name: &str,
    words: &[&'static str],
) -> Result<Option<&'static str>, Fault> {
    let Some(word) = fields.take::<String>(name)? else { return Ok(None) };
    match words.iter().find(|known| **known == word) {
        Some(known) => Ok(Some(known)),
        None => {
            let message = format!("'{}' is none of {}", shorten(&word), words.join(", "));
            Err(Fault::invalid(name, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fault::status;
    use super::*;

    fn take(body: &str) -> Result<Value, Fault> {
        let mut fields = Fields::of_body(body.as_bytes())?;
        let mut variables = take_template_variables(&mut fields)?;
        take_thinking(&mut fields)?.tell(&mut variables);
        fields.finish()?;
        Ok(Value::Object(variables))
    }

    #[test]
    fn variables_are_taken_as_they_are() {
        for (kwargs, want) in [
            (json!({"enable_thinking": false}), json!({"enable_thinking": false})),
            (
                json!({"a": null, "b": [1, {"c": "d"}], "xml_tools": ["x"]}),
                json!({"a": null, "b": [1, {"c": "d"}], "xml_tools": ["x"]}),
            ),
            (json!({}), json!({})),
            (Value::Null, json!({})),
        ] {
            assert_eq!(take(&json!({"chat_template_kwargs": kwargs}).to_string()), Ok(want));
        }
    }

    #[test]
    fn effort_and_verbosity_are_told_to_templates_that_know_them() {
        for (body, want) in [
            (
                r#"{"reasoning_effort":"low"}"#,
                json!({"reasoning_effort": "low", "enable_thinking": true, "thinking": true}),
            ),
            (
                r#"{"reasoning_effort":"none"}"#,
                json!({"reasoning_effort": "none", "enable_thinking": false, "thinking": false}),
            ),
            (
                r#"{"reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":true}}"#,
                json!({"reasoning_effort": "none", "enable_thinking": true}),
            ),
            (r#"{"verbosity":"high"}"#, json!({"verbosity": "high"})),
            (r#"{"verbosity":null,"reasoning_effort":null}"#, json!({})),
        ] {
            assert_eq!(take(body), Ok(want), "{body}");
        }
    }

    #[test]
    fn what_the_server_says_itself_and_what_is_too_much_is_refused_by_name() {
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(17), "]".repeat(17));
        let deepest = format!(r#"{{"a":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        let many = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(1024));
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(70_000));
        for (kwargs, param) in [
            (r#"{"messages":[]}"#, "chat_template_kwargs.messages"),
            (r#"{"tools":null}"#, "chat_template_kwargs.tools"),
            (r#"{"x":1,"add_generation_prompt":false}"#, "chat_template_kwargs.add_generation_prompt"),
            (r#"{"bos_token":"x"}"#, "chat_template_kwargs.bos_token"),
            (r#"{"raise_exception":1}"#, "chat_template_kwargs.raise_exception"),
            ("[]", NAME),
            ("7", NAME),
            ("\"{}\"", NAME),
            (&deep, NAME),
            (&deepest, NAME),
            (&many, NAME),
            (&long, NAME),
        ] {
            let error = take(&format!(r#"{{"chat_template_kwargs":{kwargs}}}"#)).unwrap_err();
            assert_eq!(
                (status(error.kind).as_u16(), error.place.as_deref()),
                (400, Some(param)),
                "{kwargs:.60}"
            );
        }
        let allowed = format!(r#"{{"chat_template_kwargs":{{"a":{}{}}}}}"#, "[".repeat(16), "]".repeat(16));
        assert!(take(&allowed).is_ok());
    }
}
