//! The tools of a call: functions, what is shown to the model as functions, and what each is called by its client.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use text::Tool;

use crate::calls::fault::{Fault, shorten};
use crate::calls::tools::{OfferedTool, Parallel, ToolChoice, Tools};
use crate::dialects::fields::{Fields, RawList};
use crate::dialects::remarks::Remarks;

/// Bytes of all tools: what a schema is built into is larger than its text many times over.
const MAX_BYTES: usize = 2 << 20;
/// What stands between a namespace and a name where a model is shown both as one.
const BETWEEN: &str = "__";

/// What a client calls a function that the model is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) kind: Kind,
}

/// What a function is for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Function,
    /// It takes text, which is the function's only argument.
    Custom,
}

/// What the model is shown, and what that is called by its client.
#[derive(Debug, Default)]
pub(crate) struct ShownTools {
    pub(crate) tools: Tools,
    pub(crate) called: BTreeMap<String, Called>,
}

/// The name of a function as a model is shown it.
pub(crate) fn shown_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}{BETWEEN}{name}"),
        None => name.to_owned(),
    }
}

/// Take `tools`, `tool_choice` and `parallel_tool_calls` out of a body.
///
/// # Errors
/// One of them has not the API's form, two have one name, or a choice is of none of them.
pub(crate) fn take_tools(fields: &mut Fields<'_>, remarks: &mut Remarks) -> Result<ShownTools, Fault> {
    let mut shown = ShownTools::default();
    if let Some(tools) = fields.take_large::<&RawValue>("tools")? {
        if tools.get().len() > MAX_BYTES {
            return Err(Fault::invalid("tools", format!("longer than {MAX_BYTES} bytes")));
        }
        shown.read_list("tools", tools, None, remarks)?;
    }
    if fields.take::<bool>("parallel_tool_calls")? == Some(false) {
        shown.tools.parallel = Parallel::One;
    }
    if let Some(choice) = fields.take_large::<&RawValue>("tool_choice")? {
        shown.take_choice(choice)?;
    }
    Ok(shown)
}

impl ShownTools {
    fn read_list(
        &mut self,
        path: &str,
        tools: &RawValue,
        namespace: Option<&str>,
        remarks: &mut Remarks,
    ) -> Result<(), Fault> {
        let Ok(RawList(tools)) = serde_json::from_str::<RawList<'_>>(tools.get()) else {
            return Err(Fault::invalid(path, "expected a list of tools"));
        };
        for (i, tool) in tools.iter().enumerate() {
            self.read_tool(&format!("{path}[{i}]"), tool, namespace, remarks)?;
        }
        Ok(())
    }

    fn read_tool(
        &mut self,
        path: &str,
        tool: &RawValue,
        namespace: Option<&str>,
        remarks: &mut Remarks,
    ) -> Result<(), Fault> {
        let mut fields = Fields::of_value(path, tool)?;
        let kind = fields.need::<String>("type")?;
        match (kind.as_str(), namespace) {
            ("function", _) => {
                let name = fields.need::<String>("name")?;
                let description = fields.take_large::<String>("description")?;
                let place = fields.path("parameters");
                let parameters = fields.take_large::<Value>("parameters")?;
                if parameters.as_ref().is_some_and(|parameters| !parameters.is_object()) {
                    return Err(Fault::invalid(place, "a schema is wanted, as an object"));
                }
                let strict = fields.take::<bool>("strict")?.unwrap_or(false);
                fields.pass(|name| name == "defer_loading");
                remarks.passed_over("a tool", &fields);
                let called = Called { name, namespace: namespace.map(str::to_owned), kind: Kind::Function };
                self.offer(path, called, Tool { description, parameters, strict, ..Tool::default() }, place)
            }
            ("custom", _) => {
                let name = fields.need::<String>("name")?;
                let description = fields.take_large::<String>("description")?;
                let description = with_format(&mut fields, description, remarks)?;
                fields.pass(|name| name == "defer_loading");
                remarks.passed_over("a tool", &fields);
                let parameters = json!({
                    "type": "object",
                    "properties": {"input": {"type": "string"}},
                    "required": ["input"],
                    "additionalProperties": false
                });
                let called = Called { name, namespace: namespace.map(str::to_owned), kind: Kind::Custom };
                let tool =
                    Tool { description, parameters: Some(parameters), strict: true, ..Tool::default() };
                self.offer(path, called, tool, path.to_owned())
            }
            ("namespace", None) => {
                let name = fields.need::<String>("name")?;
                let tools_path = fields.path("tools");
                let Some(tools) = fields.take_large::<&RawValue>("tools")? else {
                    return Err(Fault::missing(tools_path));
                };
                let about = fields.take_large::<String>("description")?;
                remarks.passed_over("a namespace", &fields);
                let first = self.tools.offered.len();
                self.read_list(&tools_path, tools, Some(&name), remarks)?;
                // Templates know no namespaces: what is said of one is said with its first function.
                if let (Some(about), Some(offered)) = (about, self.tools.offered.get_mut(first)) {
                    let description = offered.tool.description.take();
                    let words = [about].into_iter().chain(description);
                    offered.tool.description = Some(words.collect::<Vec<_>>().join("\n"));
                }
                Ok(())
            }
            (kind, _) => {
                // Its makers' service runs it.
                remarks.add(format!("a tool of type '{}' was dropped: this server has none", shorten(kind)));
                Ok(())
            }
        }
    }

    fn offer(&mut self, path: &str, called: Called, tool: Tool, place: String) -> Result<(), Fault> {
        let name = shown_name(called.namespace.as_deref(), &called.name);
        if self.called.insert(name.clone(), called).is_some() {
            let message = format!("there are two tools named '{}'", shorten(&name));
            return Err(Fault::invalid(format!("{path}.name"), message));
        }
        self.tools.offered.push(OfferedTool { tool: Tool { name, ..tool }, place });
        Ok(())
    }

    fn take_choice(&mut self, choice: &RawValue) -> Result<(), Fault> {
        let path = "tool_choice";
        if choice.get().starts_with('"') {
            let word = serde_json::from_str::<String>(choice.get()).unwrap_or_default();
            self.tools.choice = match word.as_str() {
                "auto" => ToolChoice::Auto,
                "none" => ToolChoice::None,
                "required" => ToolChoice::Required,
                _ => return Err(Fault::invalid(path, "none of none, auto or required")),
            };
            return Ok(());
        }
        let mut fields = Fields::of_value(path, choice)?;
        let kind = fields.need::<String>("type")?;
        match kind.as_str() {
            "function" | "custom" => self.tools.choice = ToolChoice::Named(self.chosen(&mut fields)?),
            "allowed_tools" => self.allow_only(&mut fields)?,
            other => {
                let message = format!("a choice of type '{}' is not supported", shorten(other));
                return Err(Fault::unsupported(fields.path("type"), message));
            }
        }
        fields.finish()
    }

    /// The shown name of the tool that these fields name.
    fn chosen(&self, fields: &mut Fields<'_>) -> Result<String, Fault> {
        let name = fields.need::<String>("name")?;
        let namespace = fields.take::<String>("namespace")?;
        let shown = shown_name(namespace.as_deref(), &name);
        match self.called.contains_key(&shown) {
            true => Ok(shown),
            false => {
                let message = format!("there is no tool named '{}'", shorten(&name));
                Err(Fault::invalid(fields.path("name"), message))
            }
        }
    }

    /// The others are not shown.
    fn allow_only(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        self.tools.choice = match fields.take::<String>("mode")?.as_deref() {
            None | Some("auto") => ToolChoice::Auto,
            Some("required") => ToolChoice::Required,
            Some(_) => return Err(Fault::invalid(fields.path("mode"), "none of auto or required")),
        };
        let path = fields.path("tools");
        let RawList(tools) = fields.take("tools")?.ok_or_else(|| Fault::missing(path.as_str()))?;
        let mut allowed = Vec::new();
        for (i, tool) in tools.iter().enumerate() {
            let mut tool = Fields::of_value(&format!("{path}[{i}]"), tool)?;
            match tool.need::<String>("type")?.as_str() {
                "function" | "custom" => allowed.push(self.chosen(&mut tool)?),
                // It was dropped.
                _ => {}
            }
        }
        self.tools.offered.retain(|offered| allowed.contains(&offered.tool.name));
        Ok(())
    }
}

/// A custom tool's description with the form that its text must have: a model is told it, and not held to it.
fn with_format(
    fields: &mut Fields<'_>,
    description: Option<String>,
    remarks: &mut Remarks,
) -> Result<Option<String>, Fault> {
    let path = fields.path("format");
    let Some(format) = fields.take_large::<&RawValue>("format")? else { return Ok(description) };
    let mut format = Fields::of_value(&path, format)?;
    match format.need::<String>("type")?.as_str() {
        "text" => Ok(description),
        "grammar" => {
            let syntax = format.need::<String>("syntax")?;
            let definition = format.take_large::<String>("definition")?;
            let definition = definition.ok_or_else(|| Fault::missing(format.path("definition")))?;
            remarks.add("a custom tool's grammar was shown to the model, which is not held to it");
            let words = description.unwrap_or_default();
            Ok(Some(format!("{words}\nThe input follows this {} grammar:\n{definition}", shorten(&syntax))))
        }
        _ => Err(Fault::invalid(format.path("type"), "none of text or grammar")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> Result<(ShownTools, Vec<String>), Fault> {
        let mut fields = Fields::of_body(body.as_bytes())?;
        let mut remarks = Remarks::default();
        let shown = take_tools(&mut fields, &mut remarks)?;
        fields.finish()?;
        Ok((shown, remarks.into_vec()))
    }

    fn names(shown: &ShownTools) -> Vec<&str> {
        shown.tools.offered.iter().map(|offered| offered.tool.name.as_str()).collect()
    }

    const ALL: &str = r#"[{"type":"function","name":"shell","description":"d","strict":false,"parameters":{"type":"object"}},
        {"type":"namespace","name":"multi","description":"m","tools":[{"type":"function","name":"spawn","parameters":{}}]},
        {"type":"custom","name":"apply_patch","description":"p","format":{"type":"grammar","syntax":"lark","definition":"start: x"}},
        {"type":"web_search","external_web_access":false}]"#;

    #[test]
    fn namespaces_and_custom_tools_are_shown_as_functions_and_a_services_own_are_dropped() {
        let (shown, remarks) = take(&format!(r#"{{"tools":{ALL}}}"#)).unwrap();
        assert_eq!(names(&shown), ["shell", "multi__spawn", "apply_patch"]);
        let spawn = &shown.called["multi__spawn"];
        assert_eq!((spawn.namespace.as_deref(), spawn.name.as_str()), (Some("multi"), "spawn"));
        assert_eq!(shown.tools.offered[1].tool.description.as_deref(), Some("m"));
        assert_eq!(shown.called["apply_patch"].kind, Kind::Custom);
        let places: Vec<&str> = shown.tools.offered.iter().map(|offered| offered.place.as_str()).collect();
        assert_eq!(places, ["tools[0].parameters", "tools[1].tools[0].parameters", "tools[2]"]);
        let patch = &shown.tools.offered[2].tool;
        assert_eq!(patch.parameters.as_ref().unwrap()["required"], json!(["input"]));
        assert!(patch.description.as_ref().unwrap().ends_with("start: x"));
        assert_eq!(remarks.len(), 2);
        assert!(remarks[1].contains("web_search"), "{remarks:?}");
    }

    #[test]
    fn a_choice_is_a_word_a_tool_or_some_of_them() {
        let choice = |choice: &str| {
            let (shown, _) = take(&format!(r#"{{"tools":{ALL},"tool_choice":{choice}}}"#)).unwrap();
            (shown.tools.choice.clone(), names(&shown).len())
        };
        assert_eq!(choice(r#""auto""#), (ToolChoice::Auto, 3));
        assert_eq!(choice(r#""none""#), (ToolChoice::None, 3));
        assert_eq!(choice(r#""required""#), (ToolChoice::Required, 3));
        assert_eq!(choice(r#"{"type":"function","name":"shell"}"#), (ToolChoice::Named("shell".into()), 3));
        assert_eq!(
            choice(r#"{"type":"function","name":"spawn","namespace":"multi"}"#),
            (ToolChoice::Named("multi__spawn".into()), 3)
        );
        let some = r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"shell"},{"type":"web_search"}]}"#;
        assert_eq!(choice(some), (ToolChoice::Required, 1));
        let (shown, _) = take(r#"{"parallel_tool_calls":false}"#).unwrap();
        assert_eq!(shown.tools.parallel, Parallel::One);
    }

    #[test]
    fn another_form_is_refused_where_it_is_wrong() {
        for (body, place) in [
            (r#"{"tools":7}"#, "tools"),
            (r#"{"tools":[{}]}"#, "tools[0].type"),
            (r#"{"tools":[{"type":"function"}]}"#, "tools[0].name"),
            (r#"{"tools":[{"type":"function","function":{"name":"a"}}]}"#, "tools[0].name"),
            (r#"{"tools":[{"type":"function","name":"a","parameters":[]}]}"#, "tools[0].parameters"),
            (r#"{"tools":[{"type":"namespace","name":"a"}]}"#, "tools[0].tools"),
            (r#"{"tools":[{"type":"custom","name":"a","format":{"type":"xml"}}]}"#, "tools[0].format.type"),
            (
                r#"{"tools":[{"type":"function","name":"a__b"},{"type":"namespace","name":"a","tools":[{"type":"function","name":"b"}]}]}"#,
                "tools[1].tools[0].name",
            ),
            (r#"{"tool_choice":"some"}"#, "tool_choice"),
            (r#"{"tool_choice":{"type":"function","name":"x"}}"#, "tool_choice.name"),
            (r#"{"tool_choice":{"type":"web_search_preview"}}"#, "tool_choice.type"),
        ] {
            assert_eq!(take(body).unwrap_err().place.as_deref(), Some(place), "{body}");
        }
    }
}
