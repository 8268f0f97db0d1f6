//! `POST /api/chat`.

use serde_json::Value;
use serde_json::value::RawValue;
use text::Tool;

use super::lines::Form;
use super::messages::take_messages;
use super::parameters::{Parameters, Wanted, chat};
use crate::calls::call::Names;
use crate::calls::fault::{Fault, shorten};
use crate::calls::tools::{OfferedTool, Tools};
use crate::dialects::fields::{Fields, RawList};

/// Bytes of all tools: what a schema is built into is larger than its text many times over.
const MAX_TOOLS_BYTES: usize = 2 << 20;

const NAMES: Names = Names {
    prompt: "messages",
    format: "format",
    schema: "format",
    tools: "tools",
    tool_choice: "tools",
    logit_bias: "logit_bias",
};

/// What a body asks for.
///
/// # Errors
/// A value is of the wrong type, out of range or not supported.
pub(crate) fn parse(body: &[u8]) -> Result<Wanted, Fault> {
    let mut fields = Fields::of_body(body)?;
    let messages = take_messages(&mut fields)?;
    let offered = take_tools(&mut fields)?;
    let parameters = Parameters::take(&mut fields)?;
    fields.finish()?;
    if messages.is_empty() {
        return Ok(parameters.model_only(Form::Chat));
    }
    let tools = Tools { offered, ..Tools::default() };
    Ok(parameters.answer(chat(messages), tools, Form::Chat, NAMES))
}

fn take_tools(fields: &mut Fields<'_>) -> Result<Vec<OfferedTool>, Fault> {
    let Some(tools) = fields.take_large::<&RawValue>("tools")? else { return Ok(Vec::new()) };
    if tools.get().len() > MAX_TOOLS_BYTES {
        return Err(Fault::invalid("tools", format!("longer than {MAX_TOOLS_BYTES} bytes")));
    }
    let Ok(RawList(tools)) = serde_json::from_str::<RawList<'_>>(tools.get()) else {
        return Err(Fault::invalid("tools", "expected a list of tools"));
    };
    tools.iter().enumerate().map(|(i, tool)| read_tool(&format!("tools[{i}]"), tool)).collect()
}

fn read_tool(path: &str, tool: &RawValue) -> Result<OfferedTool, Fault> {
    let mut fields = Fields::of_value(path, tool)?;
    if let Some(kind) = fields.take::<String>("type")?.filter(|kind| kind != "function") {
        let message = format!("a tool of type '{}' is not supported", shorten(&kind));
        return Err(Fault::unsupported(fields.path("type"), message));
    }
    let function_path = fields.path("function");
    let Some(function) = fields.take_large::<&RawValue>("function")? else {
        return Err(Fault::missing(function_path));
    };
    // What else stands there, and with the function, are notes to other servers.
    let mut function = Fields::of_value(&function_path, function)?;
    let name = function.need::<String>("name")?;
    let description = function.take_large::<String>("description")?;
    let place = function.path("parameters");
    let parameters = function.take_large::<Value>("parameters")?;
    if parameters.as_ref().is_some_and(|parameters| !parameters.is_object()) {
        return Err(Fault::invalid(place, "a schema is wanted, as an object"));
    }
    let strict = function.take::<bool>("strict")?.unwrap_or(false);
    Ok(OfferedTool { tool: Tool { name, description, parameters, strict }, place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::call::{Call, Prompt};

    fn answer(body: &str) -> Call {
        match parse(body.as_bytes()) {
            Ok(Wanted::Answer(asked)) => asked.call,
            Ok(Wanted::Model { .. }) => panic!("nothing is asked"),
            Err(fault) => panic!("{fault:?}"),
        }
    }

    #[test]
    fn a_chat_is_what_the_official_client_sends() {
        let call = answer(
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[],"stream":false,"options":{},
            "format":null,"keep_alive":null,"think":null,"logprobs":null,"top_logprobs":null}"#,
        );
        assert_eq!(call.model.as_deref(), Some("m"));
        let Prompt::Chat(chat) = call.prompt else { panic!("a chat") };
        assert!(chat.add_generation_prompt && !chat.continue_final);
        let call =
            answer(r#"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"so"}]}"#);
        let Prompt::Chat(chat) = call.prompt else { panic!("a chat") };
        assert!(chat.continue_final && !chat.add_generation_prompt);
    }

    #[test]
    fn tools_are_functions() {
        let call = answer(
            r#"{"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":
            {"name":"w","description":"d","parameters":{"type":"object","properties":{"b":{},"a":{}}}}}]}"#,
        );
        let [offered] = &call.tools.offered[..] else { panic!("{:?}", call.tools) };
        assert_eq!(
            (offered.tool.name.as_str(), offered.place.as_str()),
            ("w", "tools[0].function.parameters")
        );
    }

    #[test]
    fn a_chat_of_nothing_is_about_the_model_alone() {
        for (body, want) in
            [(r#"{"model":"m"}"#, "load"), (r#"{"model":"m","messages":[],"keep_alive":0}"#, "unload")]
        {
            let Ok(Wanted::Model { name, reason, .. }) = parse(body.as_bytes()) else { panic!("{body}") };
            assert_eq!((name.as_deref(), reason), (Some("m"), want));
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (more, place) in [
            (r#","tools":[{"type":"web_search"}]"#, "tools[0].type"),
            (r#","tools":[{"type":"function"}]"#, "tools[0].function"),
            (r#","tools":[{"type":"function","function":{}}]"#, "tools[0].function.name"),
            (r#","tools":[{"function":{"name":"f","parameters":[]}}]"#, "tools[0].function.parameters"),
            (r#","tool_choice":"auto""#, "tool_choice"),
            (r#","temperature":1"#, "temperature"),
        ] {
            let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
            assert_eq!(parse(body.as_bytes()).err().unwrap().place.as_deref(), Some(place), "{more}");
        }
    }
}
