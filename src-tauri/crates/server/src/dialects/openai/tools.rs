//! The functions of a chat call, and which of them the model is to call, in the words of OpenAI's clients: `tools` and
//! `tool_choice`, and the older `functions` and `function_call`.

use serde_json::Value;
use serde_json::value::RawValue;
use text::Tool;

use crate::calls::fault::{Fault, shorten};
use crate::calls::tools::{OfferedTool, Parallel, ToolChoice, Tools};
use crate::dialects::fields::{Fields, RawList};

/// Bytes of all functions: what a schema is built into is larger than its text many times over.
const MAX_BYTES: usize = 2 << 20;

/// In which of the two wordings a call offers functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wording {
    Tools,
    /// An answer has one call at most, and no list of them.
    Functions,
}

/// Take the functions out of a body.
///
/// # Errors
/// They have not the API's form, or both wordings are used.
pub(crate) fn take_tools(fields: &mut Fields<'_>) -> Result<(Tools, Wording), Fault> {
    let offered = take_list(fields, "tools", tool)?;
    let choice = take_choice(fields, "tool_choice", Wording::Tools)?;
    let parallel = fields.take::<bool>("parallel_tool_calls")?.unwrap_or(true);
    let functions = take_list(fields, "functions", function)?;
    let function_call = take_choice(fields, "function_call", Wording::Functions)?;
    if functions.is_empty() {
        // Without functions there is none that could be called, whatever the older field says.
        if let Some(choice @ (ToolChoice::Required | ToolChoice::Named(_))) = &function_call {
            let message = match choice {
                ToolChoice::Named(name) => format!("there is no function '{}'", shorten(name)),
                _ => "there are no functions".to_owned(),
            };
            return Err(Fault::invalid("function_call", message));
        }
        let parallel = if parallel { Parallel::Any } else { Parallel::One };
        return Ok((Tools { offered, choice: choice.unwrap_or(ToolChoice::Auto), parallel }, Wording::Tools));
    }
    if !offered.is_empty() || choice.is_some() {
        return Err(Fault::invalid("functions", "only allowed without 'tools' and 'tool_choice'"));
    }
    let choice = function_call.unwrap_or(ToolChoice::Auto);
    Ok((Tools { offered: functions, choice, parallel: Parallel::One }, Wording::Functions))
}

fn take_list(
    fields: &mut Fields<'_>,
    name: &str,
    element: fn(&str, &RawValue) -> Result<OfferedTool, Fault>,
) -> Result<Vec<OfferedTool>, Fault> {
    let Some(list) = fields.take_large::<&RawValue>(name)? else { return Ok(Vec::new()) };
    if list.get().len() > MAX_BYTES {
        return Err(Fault::invalid(name, format!("longer than {MAX_BYTES} bytes")));
    }
    let Ok(RawList(elements)) = serde_json::from_str::<RawList<'_>>(list.get()) else {
        return Err(Fault::invalid(name, "expected a list of functions"));
    };
    elements.iter().enumerate().map(|(i, value)| element(&format!("{name}[{i}]"), value)).collect()
}

/// `{"type": "function", "function": {…}}`
fn tool(path: &str, value: &RawValue) -> Result<OfferedTool, Fault> {
    let mut fields = Fields::of_value(path, value)?;
    let kind = fields.need::<String>("type")?;
    if kind != "function" {
        let message = format!("tools of type '{}' are not supported; use 'function'", shorten(&kind));
        return Err(Fault::unsupported(fields.path("type"), message));
    }
    let place = fields.path("function");
    let Some(value) = fields.take_large::<&RawValue>("function")? else { return Err(Fault::missing(place)) };
    // What else stands there are notes to other servers, `cache_control` for example.
    function(&place, value)
}

/// `{"name": …, "description": …, "parameters": …, "strict": …}`
fn function(path: &str, value: &RawValue) -> Result<OfferedTool, Fault> {
    let mut fields = Fields::of_value(path, value)?;
    let place = fields.path("parameters");
    let parameters = fields.take_large::<Value>("parameters")?;
    if parameters.as_ref().is_some_and(|parameters| !parameters.is_object()) {
        return Err(Fault::invalid(place, "a schema is wanted, as an object"));
    }
    let tool = Tool {
        name: fields.need("name")?,
        description: fields.take_large("description")?,
        parameters,
        strict: fields.take("strict")?.unwrap_or(false),
    };
    Ok(OfferedTool { tool, place })
}

/// A word, or `{"type": "function", "function": {"name": …}}`; in the older wording `{"name": …}`.
fn take_choice(fields: &mut Fields<'_>, name: &str, wording: Wording) -> Result<Option<ToolChoice>, Fault> {
    let Some(choice) = fields.take::<&RawValue>(name)? else { return Ok(None) };
    if choice.get().starts_with('"') {
        return match serde_json::from_str::<String>(choice.get()).as_deref() {
            Ok("none") => Ok(Some(ToolChoice::None)),
            Ok("auto") => Ok(Some(ToolChoice::Auto)),
            Ok("required") if wording == Wording::Tools => Ok(Some(ToolChoice::Required)),
            _ => Err(Fault::invalid(name, "none of the API's words, nor a function")),
        };
    }
    let mut choice = Fields::of_value(name, choice)?;
    if wording == Wording::Functions {
        return Ok(Some(ToolChoice::Named(choice.need("name")?)));
    }
    let kind = choice.need::<String>("type")?;
    if kind != "function" {
        let message = format!("a choice of type '{}' is not supported; use 'function'", shorten(&kind));
        return Err(Fault::unsupported(choice.path("type"), message));
    }
    let path = choice.path("function");
    let Some(function) = choice.take::<&RawValue>("function")? else { return Err(Fault::missing(path)) };
    Ok(Some(ToolChoice::Named(Fields::of_value(&path, function)?.need("name")?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fault::status;
    use super::*;

    fn take(body: &Value) -> Result<(Tools, Wording), Fault> {
        let body = body.to_string();
        let mut fields = Fields::of_body(body.as_bytes())?;
        let tools = take_tools(&mut fields)?;
        fields.finish()?;
        Ok(tools)
    }

    #[test]
    fn tools_are_offered_and_chosen_as_official_clients_do() {
        let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let function = json!({"name": "f", "description": "d", "parameters": schema, "strict": true});
        let tools =
            json!([{"type": "function", "function": function, "cache_control": {"type": "ephemeral"}}]);
        let want = OfferedTool {
            tool: Tool {
                name: "f".into(),
                description: Some("d".into()),
                parameters: Some(schema),
                strict: true,
            },
            place: "tools[0].function.parameters".into(),
        };
        for (choice, parallel, want_choice, want_parallel) in [
            (Value::Null, Value::Null, ToolChoice::Auto, Parallel::Any),
            (json!("auto"), json!(true), ToolChoice::Auto, Parallel::Any),
            (json!("none"), json!(false), ToolChoice::None, Parallel::One),
            (json!("required"), Value::Null, ToolChoice::Required, Parallel::Any),
            (
                json!({"type": "function", "function": {"name": "f"}}),
                json!(false),
                ToolChoice::Named("f".into()),
                Parallel::One,
            ),
        ] {
            let body = json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel});
            let want = Tools { offered: vec![want.clone()], choice: want_choice, parallel: want_parallel };
            assert_eq!(take(&body), Ok((want, Wording::Tools)), "{body}");
        }
        assert_eq!(take(&json!({})), Ok((Tools::default(), Wording::Tools)));
        assert_eq!(
            take(&json!({"tools": [], "functions": [], "function_call": "auto"})).unwrap().0.offered,
            []
        );
    }

    #[test]
    fn the_older_wording_offers_one_call_at_most() {
        let body = json!({"functions": [{"name": "f"}], "function_call": {"name": "f"}});
        let (tools, wording) = take(&body).unwrap();
        assert_eq!((wording, tools.parallel), (Wording::Functions, Parallel::One));
        assert_eq!(tools.choice, ToolChoice::Named("f".into()));
        assert_eq!(tools.offered[0].place, "functions[0].parameters");
    }

    #[test]
    fn what_has_not_the_form_is_refused_where_it_stands() {
        let f = json!({"name": "f"});
        for (body, param) in [
            (json!({"tools": {}}), "tools"),
            (json!({"tools": [7]}), "tools[0]"),
            (json!({"tools": [{}]}), "tools[0].type"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
            (json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name"),
            (
                json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}),
                "tools[0].function.parameters",
            ),
            (
                json!({"tools": [{"type": "function", "function": {"name": "f", "strict": "yes"}}]}),
                "tools[0].function.strict",
            ),
            (json!({"tools": [], "tool_choice": "maybe"}), "tool_choice"),
            (json!({"tool_choice": {"type": "allowed_tools"}}), "tool_choice.type"),
            (json!({"tool_choice": {"type": "function"}}), "tool_choice.function"),
            (json!({"tool_choice": {"type": "function", "function": {}}}), "tool_choice.function.name"),
            (json!({"parallel_tool_calls": "no"}), "parallel_tool_calls"),
            (json!({"functions": [f], "function_call": "required"}), "function_call"),
            (json!({"function_call": {"name": "f"}}), "function_call"),
            (json!({"functions": [f], "tools": [{"type": "function", "function": f}]}), "functions"),
        ] {
            let error = take(&body).unwrap_err();
            assert_eq!((status(error.kind).as_u16(), error.place.as_deref()), (400, Some(param)), "{body}");
        }
        let long = json!({"tools": [{"type": "function", "function": {"name": "f", "description": "x".repeat(MAX_BYTES)}}]});
        assert_eq!(take(&long).unwrap_err().place.as_deref(), Some("tools"));
    }
}
