//! The tools of a call, and which of them the model is to use.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::value::RawValue;
use text::Tool;

use crate::calls::fault::{Fault, shorten};
use crate::calls::tools::{OfferedTool, Parallel, ToolChoice, Tools};
use crate::dialects::fields::{Fields, RawList};
use crate::dialects::remarks::Remarks;

/// Bytes of all tools: what a schema is built into is larger than its text many times over.
const MAX_BYTES: usize = 2 << 20;
const MAX_NAME_CHARS: usize = 128;

/// Take `tools` and `tool_choice` out of a body.
///
/// # Errors
/// One of them has not the API's form, two have one name, or a choice is of none of them.
pub(crate) fn take_tools(fields: &mut Fields<'_>, remarks: &mut Remarks) -> Result<Tools, Fault> {
    let offered = match fields.take_large::<&RawValue>("tools")? {
        Some(tools) => read_tools(tools, remarks)?,
        None => Vec::new(),
    };
    let mut tools = Tools { offered, ..Tools::default() };
    if let Some(choice) = fields.take::<&RawValue>("tool_choice")? {
        take_choice(choice, &mut tools)?;
    }
    Ok(tools)
}

fn read_tools(tools: &RawValue, remarks: &mut Remarks) -> Result<Vec<OfferedTool>, Fault> {
    if tools.get().len() > MAX_BYTES {
        return Err(Fault::invalid("tools", format!("longer than {MAX_BYTES} bytes")));
    }
    let Ok(RawList(tools)) = serde_json::from_str::<RawList<'_>>(tools.get()) else {
        return Err(Fault::invalid("tools", "expected a list of tools"));
    };
    let mut names = BTreeSet::new();
    let mut offered = Vec::new();
    for (i, tool) in tools.iter().enumerate() {
        let path = format!("tools.{i}");
        let Some(tool) = read_tool(&path, tool, remarks)? else { continue };
        if !names.insert(tool.tool.name.clone()) {
            let message = format!("there are two tools named '{}'", shorten(&tool.tool.name));
            return Err(Fault::invalid(format!("{path}.name"), message));
        }
        offered.push(tool);
    }
    Ok(offered)
}

fn read_tool(path: &str, tool: &RawValue, remarks: &mut Remarks) -> Result<Option<OfferedTool>, Fault> {
    let mut fields = Fields::of_value(path, tool)?;
    let kind = fields.take::<String>("type")?;
    if let Some(kind) = kind.filter(|kind| kind != "custom") {
        // Its makers' service runs it, or its model alone knows how it is called.
        remarks.add(format!("a tool of type '{}' was dropped: this server has none", shorten(&kind)));
        return Ok(None);
    }
    let name = fields.need::<String>("name")?;
    let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(is_sound) {
        let message = format!("must be 1 to {MAX_NAME_CHARS} letters, digits, '_' or '-'");
        return Err(Fault::invalid(fields.path("name"), message));
    }
    let mut description = fields.take_large::<String>("description")?;
    let place = fields.path("input_schema");
    let schema = fields.take_large::<Value>("input_schema")?.ok_or_else(|| Fault::missing(place.as_str()))?;
    if !schema.is_object() {
        return Err(Fault::invalid(place, "an object is wanted"));
    }
    // Templates have no place for examples but the words about the tool.
    if let Some(examples) = fields.take_large::<Vec<&RawValue>>("input_examples")? {
        let lines = examples.iter().map(|example| format!("\nExample input: {}", example.get()));
        description.get_or_insert_default().extend(lines);
    }
    let strict = fields.take::<bool>("strict")?.unwrap_or(false);
    // How it is cached, streamed, found and by whom it is called, which happens in one way here.
    fields.pass(|name| {
        matches!(name, "cache_control" | "defer_loading" | "eager_input_streaming" | "allowed_callers")
    });
    remarks.passed_over("a tool", &fields);
    let tool = Tool { name, description, parameters: Some(schema), strict };
    Ok(Some(OfferedTool { tool, place }))
}

fn take_choice(choice: &RawValue, tools: &mut Tools) -> Result<(), Fault> {
    let mut fields = Fields::of_value("tool_choice", choice)?;
    let kind = fields.need::<String>("type")?;
    tools.choice = match kind.as_str() {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Named(fields.need("name")?),
        _ => return Err(Fault::invalid(fields.path("type"), "none of auto, any, tool or none")),
    };
    if fields.take::<bool>("disable_parallel_tool_use")?.unwrap_or(false) {
        tools.parallel = Parallel::One;
    }
    match &tools.choice {
        ToolChoice::Named(name) if !tools.offered.iter().any(|offered| offered.tool.name == *name) => {
            let message = format!("there is no tool named '{}'", shorten(name));
            return Err(Fault::invalid(fields.path("name"), message));
        }
        ToolChoice::Required if tools.offered.is_empty() => {
            return Err(Fault::invalid(fields.path("type"), "there is no tool that could be used"));
        }
        _ => {}
    }
    fields.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> Result<(Tools, Vec<String>), Fault> {
        let mut fields = Fields::of_body(body.as_bytes())?;
        let mut remarks = Remarks::default();
        let tools = take_tools(&mut fields, &mut remarks)?;
        fields.finish()?;
        Ok((tools, remarks.into_vec()))
    }

    const WEATHER: &str = r#"{"name":"weather","description":"looks out","input_schema":{"type":"object","properties":{"b":{},"a":{}}}}"#;

    #[test]
    fn tools_of_the_client_are_offered_and_those_of_the_service_dropped() {
        let (tools, remarks) = take(&format!(
            r#"{{"tools":[{WEATHER},{{"type":"web_search_20260318","name":"web_search","max_uses":5}},
            {{"type":"custom","name":"x","input_schema":{{}},"strict":true,"cache_control":{{"type":"ephemeral"}},
              "input_examples":[{{"q": 1}}],"eager_input_streaming":true,"mood":"good"}}]}}"#
        ))
        .unwrap();
        let [weather, x] = &tools.offered[..] else { panic!("{tools:?}") };
        assert_eq!((weather.tool.name.as_str(), weather.place.as_str()), ("weather", "tools.0.input_schema"));
        assert_eq!(weather.tool.description.as_deref(), Some("looks out"));
        assert!(!weather.tool.strict && x.tool.strict);
        assert_eq!(x.tool.description.as_deref(), Some("\nExample input: {\"q\": 1}"));
        assert!(remarks[0].contains("web_search_20260318") && remarks[1].contains("'mood'"), "{remarks:?}");
        assert_eq!((&tools.choice, tools.parallel), (&ToolChoice::Auto, Parallel::Any));
    }

    #[test]
    fn a_choice_is_one_of_four_and_may_allow_one_call_only() {
        let choice = |choice: &str| {
            let (tools, _) = take(&format!(r#"{{"tools":[{WEATHER}],"tool_choice":{choice}}}"#)).unwrap();
            (tools.choice, tools.parallel)
        };
        assert_eq!(choice(r#"{"type":"auto"}"#), (ToolChoice::Auto, Parallel::Any));
        assert_eq!(choice(r#"{"type":"none"}"#), (ToolChoice::None, Parallel::Any));
        assert_eq!(
            choice(r#"{"type":"any","disable_parallel_tool_use":true}"#),
            (ToolChoice::Required, Parallel::One)
        );
        assert_eq!(
            choice(r#"{"type":"tool","name":"weather"}"#),
            (ToolChoice::Named("weather".into()), Parallel::Any)
        );
    }

    #[test]
    fn another_form_is_refused_where_it_is_wrong() {
        for (body, place) in [
            (r#"{"tools":7}"#.to_owned(), "tools"),
            (r#"{"tools":[7]}"#.to_owned(), "tools.0"),
            (r#"{"tools":[{"input_schema":{}}]}"#.to_owned(), "tools.0.name"),
            (r#"{"tools":[{"name":"a b","input_schema":{}}]}"#.to_owned(), "tools.0.name"),
            (r#"{"tools":[{"name":"a"}]}"#.to_owned(), "tools.0.input_schema"),
            (r#"{"tools":[{"name":"a","input_schema":[]}]}"#.to_owned(), "tools.0.input_schema"),
            (format!(r#"{{"tools":[{WEATHER},{WEATHER}]}}"#), "tools.1.name"),
            (r#"{"tool_choice":{"type":"any"}}"#.to_owned(), "tool_choice.type"),
            (r#"{"tool_choice":{"type":"some"}}"#.to_owned(), "tool_choice.type"),
            (
                format!(r#"{{"tools":[{WEATHER}],"tool_choice":{{"type":"tool","name":"x"}}}}"#),
                "tool_choice.name",
            ),
            (format!(r#"{{"tools":[{WEATHER}],"tool_choice":{{"type":"tool"}}}}"#), "tool_choice.name"),
            (format!(r#"{{"tools":["{}"]}}"#, "x".repeat(MAX_BYTES)), "tools"),
        ] {
            let fault = take(&body).unwrap_err();
            assert_eq!(fault.place.as_deref(), Some(place), "{body:.100}");
        }
    }
}
