//! `response_format`: what an answer must be, in the words of OpenAI's clients.

use serde_json::Value;
use serde_json::value::RawValue;
use text::{OutputFormat, Strictness};

use crate::calls::fault::Fault;
use crate::dialects::fields::Fields;

const NAME: &str = "response_format";
/// Bytes of the field: what a schema is built into is larger than its text many times over.
const MAX_BYTES: usize = 256 << 10;
const MAX_NAME_CHARS: usize = 64;

/// Take `response_format` out of a body; absent, `null` and `text` mean that the answer is free.
///
/// # Errors
/// It has not the API's form. Whether a schema can be used is found out later, with the model's vocabulary.
pub(crate) fn take_response_format(fields: &mut Fields<'_>) -> Result<Option<OutputFormat>, Fault> {
    let Some(format) = fields.take_large::<&RawValue>(NAME)? else { return Ok(None) };
    if format.get().len() > MAX_BYTES {
        return Err(Fault::invalid(NAME, format!("longer than {MAX_BYTES} bytes")));
    }
    let mut format = Fields::of_value(NAME, format)?;
    let wanted = match format.need::<String>("type")?.as_str() {
        "text" => None,
        "json_object" => Some(OutputFormat::JsonObject),
        "json_schema" => Some(take_schema(&mut format)?),
        _ => return Err(Fault::invalid(format.path("type"), "none of text, json_object or json_schema")),
    };
    format.finish()?;
    Ok(wanted)
}

/// The schema out of `{"name": …, "description": …, "schema": …, "strict": …}`.
///
/// The name and the description are for models that are shown them; a schema is held to whether `strict` or not, but
/// only a strict one is refused for what it cannot be held to.
fn take_schema(format: &mut Fields<'_>) -> Result<OutputFormat, Fault> {
    let path = format.path("json_schema");
    let Some(json_schema) = format.take_large::<&RawValue>("json_schema")? else {
        return Err(Fault::missing(path));
    };
    let mut json_schema = Fields::of_value(&path, json_schema)?;
    if let Some(name) = json_schema.take::<String>("name")? {
        let is_sound = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(is_sound) {
            let message = format!("must be 1 to {MAX_NAME_CHARS} letters, digits, '_' or '-'");
            return Err(Fault::invalid(json_schema.path("name"), message));
        }
    }
    json_schema.take::<String>("description")?;
    let strictness = match json_schema.take::<bool>("strict")? {
        Some(true) => Strictness::Strict,
        Some(false) | None => Strictness::Lenient,
    };
    let schema = json_schema.take_large::<Value>("schema")?;
    let schema = schema.ok_or_else(|| Fault::missing(json_schema.path("schema")))?;
    json_schema.finish()?;
    Ok(OutputFormat::JsonSchema { schema, strictness })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fault::status;
    use super::*;

    fn take(format: &str) -> Result<Option<OutputFormat>, Fault> {
        let body = format!(r#"{{"response_format":{format}}}"#);
        let mut fields = Fields::of_body(body.as_bytes())?;
        take_response_format(&mut fields)
    }

    #[test]
    fn free_text_objects_and_schemas_are_asked_for_as_official_clients_do() {
        assert_eq!(take("null"), Ok(None));
        assert_eq!(take(r#"{"type":"text"}"#), Ok(None));
        assert_eq!(take(r#"{"type":"json_object"}"#), Ok(Some(OutputFormat::JsonObject)));
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
        let strict = Strictness::Strict;
        let lenient = Strictness::Lenient;
        for (rest, strictness) in [
            (r#""name":"answer","#, lenient),
            (r#""name":"answer","strict":true,"#, strict),
            (r#""name":"an-answer_2","description":"what it is","strict":null,"#, lenient),
            (r#""strict":false,"#, lenient),
        ] {
            let format = format!(r#"{{"type":"json_schema","json_schema":{{{rest}"schema":{schema}}}}}"#);
            assert_eq!(
                take(&format),
                Ok(Some(OutputFormat::JsonSchema { schema: schema.clone(), strictness })),
                "{format}"
            );
        }
    }

    #[test]
    fn another_form_is_refused_where_it_is_wrong() {
        let long =
            format!(r#"{{"type":"json_schema","json_schema":{{"schema":"{}"}}}}"#, "x".repeat(MAX_BYTES));
        for (format, param) in [
            ("7", "response_format"),
            ("{}", "response_format.type"),
            (r#"{"type":"xml"}"#, "response_format.type"),
            (r#"{"type":"json_object","schema":{}}"#, "response_format.schema"),
            (r#"{"type":"json_schema"}"#, "response_format.json_schema"),
            (r#"{"type":"json_schema","json_schema":{}}"#, "response_format.json_schema.schema"),
            (
                r#"{"type":"json_schema","json_schema":{"name":"a b","schema":{}}}"#,
                "response_format.json_schema.name",
            ),
            (
                r#"{"type":"json_schema","json_schema":{"strict":1,"schema":{}}}"#,
                "response_format.json_schema.strict",
            ),
            (
                r#"{"type":"json_schema","json_schema":{"sch":1,"schema":{}}}"#,
                "response_format.json_schema.sch",
            ),
            (&long, "response_format"),
        ] {
            let error = take(format).unwrap_err();
            assert_eq!(
                (status(error.kind).as_u16(), error.place.as_deref()),
                (400, Some(param)),
                "{format:.80}"
            );
        }
    }
}
